// A worker of @livekit/agents that does as much of docs/probe.md as the benchmarks ask of a peer.
//
// LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET as usual; the package is found by NODE_PATH. PROBE_IDLE is the number
// of processes kept warm, LAST_CALL_LOAD_THRESHOLD=off a worker that is never full, PROBE_AGENT_NAME what dispatches ask
// for. A job's metadata {"sleep": s} is the time after which it ends, and with {"connect": true} it joins its room; it writes
// down its start, that it has joined, and its end in PROBE_JOB_DIR. Only the public API is used.

const { appendFileSync } = require("node:fs");
const { join } = require("node:path");
const { AgentServer, ServerOptions, defineAgent, initializeLogger } = require("@livekit/agents");

const { LAST_CALL_LOAD_THRESHOLD, LIVEKIT_URL, PROBE_AGENT_NAME, PROBE_IDLE, PROBE_JOB_DIR } = process.env;

function write(job, event) {
  const line = `${event} ${(Date.now() / 1000).toFixed(6)} ${process.pid}\n`;
  appendFileSync(join(PROBE_JOB_DIR, job.job.id), line);
}

module.exports = defineAgent({
  entry: async (job) => {
    write(job, "started");
    const { connect = false, sleep = 0 } = JSON.parse(job.job.metadata || "{}");
    if (connect) {
      await job.connect();
      write(job, "connected");
    }
    await new Promise((resolve) => setTimeout(resolve, sleep * 1000));
    write(job, "finished");
    job.shutdown();
  },
});

if (require.main === module) {
  const options = new ServerOptions({
    agent: __filename,
    agentName: PROBE_AGENT_NAME ?? "",
    wsURL: LIVEKIT_URL,
    loadFunc: async () => 0.1,
    loadThreshold: LAST_CALL_LOAD_THRESHOLD === "off" ? Infinity : undefined,
    production: true,
    host: "127.0.0.1",
  });
  // Set here, and the server made here, since its own command line takes a zero for no answer.
  options.port = 0;
  options.numIdleProcesses = Number(PROBE_IDLE ?? 1);
  initializeLogger({ pretty: false, level: "info" });
  new AgentServer(options).run();
}
