// A worker of @livekit/agents with the settings of agent.py beside it: `agent.mjs start`. The package is found by NODE_PATH;
// PEER_IDLE is 1 at least.

import { existsSync, writeSync } from "node:fs";
import { join } from "node:path";
import { argv, env, kill, pid } from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";

// As a module: NODE_PATH counts for `require` alone.
const sdk = pathToFileURL(join(env.NODE_PATH, "@livekit/agents/dist/index.js"));
const { ServerOptions, cli, defineAgent } = await import(sdk);

function write(event, more = {}) {
  const names = (env.PEER_SHOW ?? "").split(" ").filter((name) => name);
  const shown = Object.fromEntries(names.map((name) => [name, env[name] ?? null]));
  writeSync(1, `peer ${JSON.stringify({ event, pid, ...more, ...shown })}\n`);
}

async function exists(file) {
  while (!existsSync(file)) await sleep(10);
}

async function participant(job) {
  await job.connect();
  const { identity } = await job.waitForParticipant();
  while (job.room.remoteParticipants.has(identity)) await sleep(10);
}

async function avatar(url) {
  const body = JSON.stringify({ properties: { livekit_ws_url: env.LIVEKIT_URL } });
  const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  await answer.text();
}

const steps = {
  return: () => {},
  wait: (job, file) => exists(file),
  sleep: (job, seconds) => sleep(Number(seconds) * 1000),
  participant,
  raise: () => {
    throw new Error("raised as it was told");
  },
  exit: (job, code) => process.reallyExit(Number(code)),
  kill: () => kill(pid, "SIGKILL"),
  ignore: () => new Promise(() => {}),
  avatar: (job, url) => avatar(url),
  connect: (job) => job.connect(),
  leave: (job) => job.room.disconnect(),
};

export default defineAgent({
  entry: async (job) => {
    write("started", { job: job.job.id });
    for (const words of (job.job.metadata || env.PEER_ENTRY || "return").split(", ")) {
      const [what, ...of] = words.split(" ");
      await steps[what](job, ...of);
    }
    write("ended", { job: job.job.id });
    job.shutdown();
  },
});

async function requestFunc(request) {
  const how = env.PEER_REQUEST ?? "accept";
  if (how === "reject") return request.reject();
  if (how === "never") await new Promise(() => {});
  if (how !== "accept") await sleep(Number(how) * 1000);
  await request.accept();
}

function spin(until) {
  while (performance.now() < until);
}

async function busy(share) {
  for (;;) {
    spin(performance.now() + 10);
    await sleep(10 / share - 10);
  }
}

async function block(file) {
  for (;;) {
    if (existsSync(file)) {
      write("blocked");
      while (existsSync(file)) spin(performance.now() + 10);
    }
    await sleep(10);
  }
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  write("main");
  cli.runApp(
    new ServerOptions({
      agent: fileURLToPath(import.meta.url),
      requestFunc,
      loadFunc: async () => 0.1,
      loadThreshold: Infinity,
      host: "127.0.0.1",
      // Any free port: a number 0 would be taken for no answer.
      port: "0",
      numIdleProcesses: Number(env.PEER_IDLE ?? 1),
    }),
  );
  if (env.PEER_BUSY) busy(Number(env.PEER_BUSY));
  if (env.PEER_BLOCK) block(env.PEER_BLOCK);
}
