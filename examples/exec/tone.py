"""Plays a tone: pip install livekit; last-call run --agent-name tone -- python3 examples/exec/tone.py"""

import array
import asyncio
import json
import math
import socket

from livekit import rtc

RATE, FRAME = 48000, 480


async def play(source: rtc.AudioSource) -> None:
    at = 0
    while True:
        samples = (int(8000 * math.sin(2 * math.pi * 440 * (at + i) / RATE)) for i in range(FRAME))
        await source.capture_frame(rtc.AudioFrame(array.array("h", samples).tobytes(), RATE, 1, FRAME))
        at += FRAME


async def main() -> None:
    job = json.load(open(3))
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=4))
    writer.write(b'{"type":"ready"}\n')
    room = rtc.Room()
    await room.connect(job["url"], job["token"])
    source = rtc.AudioSource(RATE, 1)
    await room.local_participant.publish_track(rtc.LocalAudioTrack.create_audio_track("tone", source))
    print(f"playing in {room.name}", flush=True)
    tone = asyncio.create_task(play(source))
    while (line := await reader.readline()) and json.loads(line)["type"] != "shutdown":
        pass
    tone.cancel()
    await room.disconnect()


asyncio.run(main())
