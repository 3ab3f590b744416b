"""A worker of livekit-agents, of any version from 1.3.12 on, for tests of what stands in front of one: `agent.py start`.

LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET as usual. It prints a line for each event, "peer" and JSON: "main" when
the worker starts, "blocked" when its event loop stands still, "started" and "ended" of a job, each with the process's
number. The rest by variables:

  PEER_SHOW    names of variables, with spaces between them, whose values an event has too
  PEER_IDLE    processes kept warm, 1 where it is not set
  PEER_JOBS    "PROCESS" for each job, or "THREAD" of the worker's own
  PEER_BUSY    the share of time, 0 to 1, in which the event loop is busy, in slices of 10 ms
  PEER_BLOCK   a file: while it is there, the event loop stands still
  PEER_LEAK    a file: when it is there, the worker takes it away, leaks until it has no memory left, and aborts
  PEER_REQUEST what the request handler does: "accept", "reject", "never", or seconds before it accepts
  PEER_ENTRY   what a job does whose metadata does not say; words of it are parted by spaces:
               "return", "wait FILE" until it is there, "sleep SECONDS", "participant" until one has come and gone,
               "raise", "leak" until it has no memory left, which raises, "exit CODE" at once, "kill" itself,
               "ignore" whatever asks it to end, "avatar URL" gives a provider there what plugins give one,
               "connect" joins the room, and "leave" leaves it
PEER_ENTRY and metadata may have several such steps, with ", " between them. A job ends after the last one.
"""

import asyncio
import json
import math
import os
import resource
import signal
import time
import urllib.request

from livekit.agents import AgentServer, JobContext, JobExecutorType, JobRequest, cli

setting = os.environ.get
idle = int(setting("PEER_IDLE", "1"))
server = AgentServer(
    load_fnc=lambda: 0.1,
    load_threshold=math.inf,
    num_idle_processes=idle,
    # On a busy machine ten seconds, as it is without this, are too short.
    initialize_process_timeout=60.0,
    job_executor_type=JobExecutorType[setting("PEER_JOBS", "PROCESS")],
    host="127.0.0.1",
    port=0,
)


def write(event: str, **more: object) -> None:
    shown = {name: setting(name) for name in setting("PEER_SHOW", "").split()}
    # In one piece: several processes have this pipe.
    os.write(1, f"peer {json.dumps({'event': event, 'pid': os.getpid(), **more, **shown})}\n".encode())


async def busy(share: float) -> None:
    while True:
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0.01 / share - 0.01)


async def block(file: str) -> None:
    while True:
        if os.path.exists(file):
            write("blocked")
            while os.path.exists(file):
                time.sleep(0.01)
        await asyncio.sleep(0.01)


def leak() -> None:
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    # A little more than there is: the machine has other things to do.
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    leaked = []
    try:
        while True:
            leaked.append(bytearray(1 << 20))
    finally:
        # Without room for a thread the SDK hangs in its own way out, and ends the job a minute later.
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


async def leak_at(file: str) -> None:
    while not os.path.exists(file):
        await asyncio.sleep(0.01)
    os.remove(file)
    try:
        leak()
    except MemoryError:
        # As native code does.
        os.abort()


@server.on("worker_started")
def worker_started() -> None:
    server.kept = []
    if share := setting("PEER_BUSY"):
        server.kept.append(asyncio.create_task(busy(float(share))))
    if file := setting("PEER_BLOCK"):
        server.kept.append(asyncio.create_task(block(file)))
    if file := setting("PEER_LEAK"):
        server.kept.append(asyncio.create_task(leak_at(file)))


async def on_request(request: JobRequest) -> None:
    how = setting("PEER_REQUEST", "accept")
    if how == "reject":
        return await request.reject()
    if how == "never":
        await asyncio.Event().wait()
    if how != "accept":
        await asyncio.sleep(float(how))
    await request.accept()


async def wait(file: str) -> None:
    while not os.path.exists(file):
        await asyncio.sleep(0.01)


async def participant(job: JobContext) -> None:
    await job.connect()
    somebody = await job.wait_for_participant()
    while somebody.identity in job.room.remote_participants:
        await asyncio.sleep(0.01)


async def ignore() -> None:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass


def avatar(url: str) -> None:
    told = {"properties": {"livekit_ws_url": os.getenv("LIVEKIT_URL")}}
    body = urllib.request.Request(url, json.dumps(told).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(body).close()


async def step(job: JobContext, what: str, *of: str) -> None:
    match what:
        case "return":
            pass
        case "wait":
            await wait(*of)
        case "sleep":
            await asyncio.sleep(float(*of))
        case "participant":
            await participant(job)
        case "raise":
            raise RuntimeError("raised as it was told")
        case "leak":
            leak()
        case "exit":
            os._exit(int(*of))
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "ignore":
            await ignore()
        case "avatar":
            await asyncio.to_thread(avatar, *of)
        case "connect":
            await job.connect()
        case "leave":
            await job.room.disconnect()
        case _:
            raise ValueError(f"no such step: {what}")


# Version 1.3.12 does not read it.
named = {"agent_name": name} if (name := setting("LIVEKIT_AGENT_NAME")) else {}


@server.rtc_session(on_request=on_request, **named)
async def entrypoint(job: JobContext) -> None:
    write("started", job=job.job.id)
    for words in (job.job.metadata or setting("PEER_ENTRY", "return")).split(", "):
        await step(job, *words.split())
    write("ended", job=job.job.id)
    job.shutdown()


if __name__ == "__main__":
    write("main")
    cli.run_app(server)
