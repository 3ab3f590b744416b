"""Joins a room by the official livekit SDK, says so, and stays until standard input ends.

argv: "publish" to send a microphone track, a sine tone, as well. LIVEKIT_URL and LIVEKIT_TOKEN come from the environment;
several tokens, with spaces between them, are several rooms.
Prints "joined IDENTITY", then "published SID" with a track, "event NAME IDENTITY ROOM" for others who come, publish and go,
and "left REASON" where a room ends first.
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


async def join(token: str, ended: asyncio.Event) -> rtc.Room:
    room = rtc.Room()

    def left(reason: object) -> None:
        if not ended.is_set():
            print(f"left {reason}", flush=True)
        ended.set()

    def say(event: str, other: rtc.RemoteParticipant) -> None:
        print(f"event {event} {other.identity} {room.name}", flush=True)

    room.on("disconnected", left)
    room.on("participant_connected", lambda other: say("connected", other))
    room.on("track_published", lambda _, other: say("published", other))
    room.on("participant_disconnected", lambda other: say("disconnected", other))
    await room.connect(os.environ["LIVEKIT_URL"], token)
    print(f"joined {room.local_participant.identity}", flush=True)
    return room


async def main() -> None:
    ended = asyncio.Event()
    rooms = [await join(token, ended) for token in os.environ["LIVEKIT_TOKEN"].split()]
    loop = asyncio.get_running_loop()
    stdin = loop.run_in_executor(None, sys.stdin.read)
    tone = asyncio.create_task(publish(rooms[0])) if "publish" in sys.argv[1:] else None
    waiting = [asyncio.ensure_future(stdin), asyncio.create_task(ended.wait())] + ([tone] if tone else [])
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    failed = [task.exception() for task in done if task.exception()]
    if not ended.is_set():
        # The ends that follow are no news.
        ended.set()
        await asyncio.gather(*(room.disconnect() for room in rooms))
    # A read of standard input may still be under way, and would hold the interpreter's normal exit.
    if failed:
        print(f"failed: {failed[0]!r}", file=sys.stderr, flush=True)
    os._exit(1 if failed else 0)


asyncio.run(main())
