"""An agent that greets nobody and waits: the least that runs under guard."""

from livekit.agents import AgentServer, JobContext, cli

server = AgentServer()


@server.rtc_session(agent_name="guarded")
async def answer(job: JobContext) -> None:
    await job.connect()


if __name__ == "__main__":
    cli.run_app(server)
