"""A worker of livekit-agents that does as much of docs/probe.md as the benchmarks ask of a peer.

LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET as usual. PROBE_BUSY=1 keeps the event loop busy in slices of 10 ms,
nine tenths of the time. PROBE_IDLE is the number of processes kept warm, 1 where it is not set;
LAST_CALL_LOAD_THRESHOLD=off a worker that is never full, PROBE_AGENT_NAME what dispatches ask for. A job's metadata
{"sleep": s} is the time after which it ends, and with {"connect": true} it joins its room; it writes down its start, that it
has joined, and its end in PROBE_JOB_DIR. Only the public API is used.
"""

import asyncio
import json
import math
import os
import time

from livekit.agents import AgentServer, JobContext, cli

never_full = {"load_threshold": math.inf} if os.environ.get("LAST_CALL_LOAD_THRESHOLD") == "off" else {}
idle = int(os.environ.get("PROBE_IDLE", "1"))
server = AgentServer(load_fnc=lambda: 0.1, num_idle_processes=idle, host="127.0.0.1", port=0, **never_full)


async def busy() -> None:
    while True:
        until = time.monotonic() + 0.009
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0.001)


@server.on("worker_started")
def started() -> None:
    if os.environ.get("PROBE_BUSY"):
        server.spinning = asyncio.create_task(busy())


def write(job: JobContext, event: str) -> None:
    with open(os.path.join(os.environ["PROBE_JOB_DIR"], job.job.id), "a") as diary:
        diary.write(f"{event} {time.time():.6f} {os.getpid()}\n")


@server.rtc_session(agent_name=os.environ.get("PROBE_AGENT_NAME", ""))
async def entrypoint(job: JobContext) -> None:
    write(job, "started")
    orders = json.loads(job.job.metadata or "{}")
    if orders.get("connect"):
        await job.connect()
        write(job, "connected")
    await asyncio.sleep(orders.get("sleep", 0))
    write(job, "finished")
    job.shutdown()


if __name__ == "__main__":
    cli.run_app(server)
