"""Joins a room by the official livekit SDK, says so, and stays until standard input ends.

argv: "publish" to send a microphone track, a sine tone, as well. LIVEKIT_URL and LIVEKIT_TOKEN come from the environment.
Prints "joined IDENTITY", then "published SID" with a track, "event NAME IDENTITY" for others who come, publish and go,
and "left REASON" where the room ends first.
"""

import asyncio
import math
import os
import sys
from array import array

from livekit import rtc

RATE = 48000
FRAME = RATE // 100


async def publish(room: rtc.Room) -> None:
    source = rtc.AudioSource(RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    publication = await room.local_participant.publish_track(track, options)
    print(f"published {publication.sid}", flush=True)
    phase = 0
    while True:
        samples = (int(8000 * math.sin(2 * math.pi * 440 * (phase + i) / RATE)) for i in range(FRAME))
        frame = rtc.AudioFrame(array("h", samples).tobytes(), RATE, 1, FRAME)
        await source.capture_frame(frame)
        phase = (phase + FRAME) % RATE


async def main() -> None:
    room = rtc.Room()
    ended = asyncio.Event()

    def left(reason: object) -> None:
        print(f"left {reason}", flush=True)
        ended.set()

    room.on("disconnected", left)
    room.on("participant_connected", lambda other: print(f"event connected {other.identity}", flush=True))
    room.on("track_published", lambda _, other: print(f"event published {other.identity}", flush=True))
    room.on("participant_disconnected", lambda other: print(f"event disconnected {other.identity}", flush=True))
    await room.connect(os.environ["LIVEKIT_URL"], os.environ["LIVEKIT_TOKEN"])
    print(f"joined {room.local_participant.identity}", flush=True)
    loop = asyncio.get_running_loop()
    stdin = loop.run_in_executor(None, sys.stdin.read)
    tone = asyncio.create_task(publish(room)) if "publish" in sys.argv[1:] else None
    waiting = [asyncio.ensure_future(stdin), asyncio.create_task(ended.wait())] + ([tone] if tone else [])
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    failed = [task.exception() for task in done if task.exception()]
    if not ended.is_set():
        room.off("disconnected", left)
        await room.disconnect()
    # A read of standard input may still be under way, and would hold the interpreter's normal exit.
    if failed:
        print(f"failed: {failed[0]!r}", file=sys.stderr, flush=True)
    os._exit(1 if failed else 0)


asyncio.run(main())
