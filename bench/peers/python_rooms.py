"""What examples/src/bin/rooms.rs does, by the official livekit SDK: many rooms in one process, without a worker.

argv: echo or pair. Says "up", reads tokens from standard input, a line each, up to an empty one.
"""

import asyncio
import json
import math
import os
import sys
import time
from array import array

from livekit import rtc

RATE = 48000
FRAME = RATE // 50
LOUD = 500
BURSTS = 100
URL = os.environ["LIVEKIT_URL"]


async def join(token: str) -> "tuple[rtc.Room, asyncio.Future[rtc.Track]]":
    room, track = rtc.Room(), asyncio.get_running_loop().create_future()

    def subscribed(found: rtc.Track, *_: object) -> None:
        if not track.done():
            track.set_result(found)

    room.on("track_subscribed", subscribed)
    await room.connect(URL, token)
    return room, track


async def publish(room: rtc.Room, dtx: bool) -> rtc.AudioSource:
    source = rtc.AudioSource(RATE, 1)
    track = rtc.LocalAudioTrack.create_audio_track("tone", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=dtx)
    await room.local_participant.publish_track(track, options)
    return source


async def echo(room: rtc.Room, track: "asyncio.Future[rtc.Track]") -> None:
    source = await publish(room, False)
    async for event in rtc.AudioStream(await track, sample_rate=RATE, num_channels=1):
        await source.capture_frame(event.frame)


def burst(loud: bool) -> rtc.AudioFrame:
    tone = (int(10000 * math.sin(2 * math.pi * 440 * i / RATE)) if loud else 0 for i in range(FRAME))
    return rtc.AudioFrame(array("h", tone).tobytes(), RATE, 1, FRAME)


async def way(speaker: rtc.Room, listener: "tuple[rtc.Room, asyncio.Future[rtc.Track]]") -> "list[float]":
    source = await publish(speaker, False)
    said: "list[float]" = []
    frames = {loud: burst(loud) for loud in (False, True)}

    async def speak() -> None:
        index, due = 0, time.monotonic()
        while True:
            loud = index % 13 == 12
            if loud:
                said.append(time.monotonic())
            await source.capture_frame(frames[loud])
            # What comes late is not caught up with: it would wait in the source, and be counted.
            index, due = index + 1, max(due + 0.02, time.monotonic() - 0.005)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    speaking = asyncio.create_task(speak())
    ways, quiet = [], True
    async for event in rtc.AudioStream(await listener[1], sample_rate=RATE, num_channels=1):
        loud = max(map(abs, event.frame.data)) > LOUD
        if loud and quiet and said:
            ways.append((time.monotonic() - said[-1]) * 1000)
            said.clear()
        quiet = not loud
        if len(ways) > BURSTS:
            break
    speaking.cancel()
    return ways[1:]


async def pairs(tokens: "list[str]") -> None:
    connects, ways = [], []
    for index in range(0, len(tokens) - 1, 2):
        rooms = []
        for token in tokens[index : index + 2]:
            begun = time.monotonic()
            rooms.append(await join(token))
            connects.append((time.monotonic() - begun) * 1000)
        if index == 0:
            ways = await way(rooms[0][0], rooms[1])
        for room, _ in rooms:
            await room.disconnect()
    print(json.dumps({"connect_ms": connects, "way_ms": ways}), flush=True)


async def main() -> None:
    print("up", flush=True)
    tokens = []
    while line := sys.stdin.readline().strip():
        tokens.append(line)
    if sys.argv[1] == "pair":
        await pairs(tokens)
    else:
        tasks = [asyncio.create_task(echo(*await join(token))) for token in tokens]
        print(f"joined {len(tasks)}", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    # libwebrtc's threads would hold the interpreter's normal exit.
    os._exit(0)


asyncio.run(main())
