"""Joins a room by the official livekit SDK, says so, and stays until standard input ends.

argv: "film" to send a camera track, 320 by 240, as well, and to say what others' video looks like; "publish" to send a microphone track, a sine tone of 440 Hz, as well; "listen" to say what others' tracks sound like, and
to send each data packet of the topic "ping" back with the topic "pong", to have the method "greet", and to call the method "add"
of whoever sends data of the topic "call", and send back what it says, with the topic "called", and to answer each stream of the
topic "there" with one of what it read and the same attributes, of the topic "back". LIVEKIT_E2EE_KEY is a key that
everybody in the room shares. LIVEKIT_URL and LIVEKIT_TOKEN come from the environment;
several tokens, with spaces between them, are several rooms.
Prints "joined IDENTITY", then "published SID" with a track, "event NAME IDENTITY ROOM" for others who come, publish and go,
"left REASON" where a room ends first, "sees IDENTITY WIDTH HEIGHT" for each frame of another's video, and "hears IDENTITY HERTZ SHARE" for each tenth of a second of another's track: its loudest
tone, and how much of the power is in it.
"""

import asyncio
import math
import os
import sys
from array import array
from typing import Awaitable, Callable

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


async def film(room: rtc.Room) -> None:
    source = rtc.VideoSource(320, 240)
    track = rtc.LocalVideoTrack.create_video_track("film", source)
    # As large as it was taken, from the first frame on.
    options = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_CAMERA,
        simulcast=False,
        video_codec=rtc.VideoCodec.VP8,
        video_encoding=rtc.VideoEncoding(max_bitrate=500_000, max_framerate=20),
    )
    publication = await room.local_participant.publish_track(track, options)
    print(f"published {publication.sid}", flush=True)
    shade = 0
    while True:
        frame = rtc.VideoFrame(320, 240, rtc.VideoBufferType.RGBA, bytes([shade, 255 - shade, 128, 255]) * (320 * 240))
        source.capture_frame(frame)
        shade = (shade + 5) % 256
        await asyncio.sleep(0.05)


async def watch(track: rtc.Track, identity: str) -> None:
    async for event in rtc.VideoStream(track):
        print(f"sees {identity} {event.frame.width} {event.frame.height}", flush=True)


def loudest(samples: "list[int]") -> "tuple[int, float]":
    """The loudest tone of 200 to 1,500 Hz, and its share of the power."""
    power = sum(sample * sample for sample in samples)
    best = (0, 0.0)
    for hertz in range(200, 1500, 20):
        turn = 2 * math.cos(2 * math.pi * hertz / RATE)
        one = two = 0.0
        for sample in samples:
            one, two = sample + turn * one - two, one
        share = 2 * (one * one + two * two - turn * one * two) / (power * len(samples)) if power else 0.0
        best = max(best, (hertz, share), key=lambda found: found[1])
    return best


async def listen(track: rtc.Track, identity: str) -> None:
    samples: "list[int]" = []
    async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
        samples.extend(event.frame.data)
        if len(samples) >= RATE // 10:
            hertz, share = loudest(samples[: RATE // 10])
            print(f"hears {identity} {hertz} {share:.3f}", flush=True)
            samples = []


def hear(room: rtc.Room) -> "Callable[[rtc.RpcInvocationData], Awaitable[str]]":
    tasks = set()

    def subscribed(track: rtc.Track, _: object, other: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            tasks.add(asyncio.create_task(listen(track, other.identity)))

    def data(packet: rtc.DataPacket) -> None:
        if packet.topic == "ping":
            tasks.add(asyncio.create_task(room.local_participant.publish_data(packet.data, topic="pong")))
        if packet.topic == "call" and packet.participant:
            tasks.add(asyncio.create_task(call(packet.participant.identity, packet.data.decode())))

    async def call(identity: str, payload: str) -> None:
        try:
            said = await room.local_participant.perform_rpc(
                destination_identity=identity, method="add", payload=payload
            )
        except rtc.RpcError as error:
            said = f"error {error.code}"
        await room.local_participant.publish_data(said, topic="called")

    async def greet(call: rtc.RpcInvocationData) -> str:
        return f"hello {call.payload} from {call.caller_identity}"

    async def text_back(reader: rtc.TextStreamReader, identity: str) -> None:
        text = await reader.read_all()
        me, info = room.local_participant, reader.info
        writer = await me.stream_text(
            topic="back",
            destination_identities=[identity],
            attributes=info.attributes,
            reply_to_id=info.stream_id,
        )
        await writer.write(text)
        await writer.aclose(attributes={"read": str(len(text))})

    async def bytes_back(reader: rtc.ByteStreamReader, identity: str) -> None:
        content = b"".join([chunk async for chunk in reader])
        me, info = room.local_participant, reader.info
        writer = await me.stream_bytes(
            info.name,
            topic="back",
            destination_identities=[identity],
            attributes=info.attributes,
            mime_type=info.mime_type,
            total_size=info.size,
        )
        await writer.write(content)
        await writer.aclose()

    def text(reader: rtc.TextStreamReader, identity: str) -> None:
        tasks.add(asyncio.create_task(text_back(reader, identity)))

    def content(reader: rtc.ByteStreamReader, identity: str) -> None:
        tasks.add(asyncio.create_task(bytes_back(reader, identity)))

    room.register_text_stream_handler("there", text)
    room.register_byte_stream_handler("there", content)
    room.on("track_subscribed", subscribed)
    room.on("data_received", data)
    return greet


async def join(token: str, ended: asyncio.Event) -> rtc.Room:
    room = rtc.Room()

    def left(reason: object) -> None:
        if not ended.is_set():
            print(f"left {reason}", flush=True)
        ended.set()

    def say(event: str, other: rtc.RemoteParticipant) -> None:
        print(f"event {event} {other.identity} {room.name}", flush=True)

    def subscribed(track: rtc.Track, _: object, other: rtc.RemoteParticipant) -> None:
        if track.kind == rtc.TrackKind.KIND_VIDEO and "film" in sys.argv[1:]:
            watching.append(asyncio.create_task(watch(track, other.identity)))

    watching: "list[asyncio.Task[None]]" = []
    room.on("track_subscribed", subscribed)
    room.on("disconnected", left)
    room.on("participant_connected", lambda other: say("connected", other))
    room.on("track_published", lambda _, other: say("published", other))
    room.on("participant_disconnected", lambda other: say("disconnected", other))
    options = rtc.RoomOptions()
    if key := os.environ.get("LIVEKIT_E2EE_KEY"):
        keys = rtc.KeyProviderOptions(shared_key=key.encode())
        options.encryption = rtc.E2EEOptions(key_provider_options=keys)
    greet = hear(room) if "listen" in sys.argv[1:] else None
    await room.connect(os.environ["LIVEKIT_URL"], token, options)
    if greet:
        room.local_participant.register_rpc_method("greet", greet)
    print(f"joined {room.local_participant.identity}", flush=True)
    return room


async def main() -> None:
    ended = asyncio.Event()
    rooms = [await join(token, ended) for token in os.environ["LIVEKIT_TOKEN"].split()]
    loop = asyncio.get_running_loop()
    stdin = loop.run_in_executor(None, sys.stdin.read)
    tone = asyncio.create_task(publish(rooms[0])) if "publish" in sys.argv[1:] else None
    camera = asyncio.create_task(film(rooms[0])) if "film" in sys.argv[1:] else None
    waiting = [asyncio.ensure_future(stdin), asyncio.create_task(ended.wait())] + [task for task in (tone, camera) if task]
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
