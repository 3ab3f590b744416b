// A worker of @livekit/agents that does as much of docs/probe.md as the benchmarks ask of a peer.
//
// LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET as usual; the package is found by NODE_PATH. PROBE_IDLE is the number
// of processes kept warm, LAST_CALL_LOAD_THRESHOLD=off a worker that is never full. A job's metadata {"sleep": s} is the time
// after which it ends; it writes down its start and its end in PROBE_JOB_DIR. Only the public API is used.

const { appendFileSync } = require("node:fs");
const { join } = require("node:path");
const { AgentServer, ServerOptions, defineAgent, initializeLogger } = require("@livekit/agents");

const { LAST_CALL_LOAD_THRESHOLD, LIVEKIT_URL, PROBE_IDLE, PROBE_JOB_DIR } = process.env;

function write(job, event) {
  const line = `${event} ${(Date.now() / 1000).toFixed(6)} ${process.pid}\n`;
  appendFileSync(join(PROBE_JOB_DIR, job.job.id), line);
}

module.exports = defineAgent({
  entry: async (job) => {
    write(job, "started");
    const { sleep = 0 } = JSON.parse(job.job.metadata || "{}");
    await new Promise((resolve) => setTimeout(resolve, sleep * 1000));
    write(job, "finished");
    job.shutdown();
  },
});

if (require.main === module) {
  const options = new ServerOptions({
    agent: __filename,
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
