// Runs first in every Node process of a worker behind `last-call guard`: job processes get the server's URL back, and the
// worker tells guard when a job's process starts it and ends.
//
// Owns LIVEKIT_URL of the processes that the SDK forks. Refuses to be noticed: whatever fails here is let go.
"use strict";

const { constants, closeSync, openSync, readFileSync, writeSync } = require("node:fs");
const { basename, join } = require("node:path");

const JOB = /^job_proc_lazy_main\.[cm]?[jt]s$/;
const INFERENCE = /^inference_proc_lazy_main\.[cm]?[jt]s$/;

function quietly(step) {
  try {
    step();
  } catch {
    // The worker comes first.
  }
}

function tell(...words) {
  const line = words.join(" ");
  // A word with a space in it would be two.
  if (line.split(/\s/).length !== words.length) return;
  quietly(() => {
    const news = openSync(join(__dirname, "news"), constants.O_WRONLY | constants.O_NONBLOCK);
    try {
      writeSync(news, `${line}\n`);
    } finally {
      closeSync(news);
    }
  });
}

function giveBackUrl() {
  const [guard, server] = readFileSync(join(__dirname, "urls"), "utf8").split("\n");
  // Another one than guard's is the user's own will.
  if (process.env.LIVEKIT_URL === guard) process.env.LIVEKIT_URL = server;
}

function follow(child) {
  if (!child.pid || !child.send || !child.spawnargs.some((word) => JOB.test(basename(word)))) return;
  const { pid, send } = child;
  let job;
  child.send = function (message, ...rest) {
    quietly(() => {
      if (message?.case !== "startJobRequest") return;
      job = message.value.runningJob.job.id;
      tell("started", pid, job);
    });
    return send.call(this, message, ...rest);
  };
  child.once("exit", (code, signal) => {
    if (job === undefined) return;
    const { signals } = require("node:os").constants;
    quietly(() => tell("ended", pid, job, ...(signal ? ["signal", signals[signal]] : ["exit", code])));
  });
}

function followChildren() {
  const { ChildProcess } = require("node:child_process");
  const { spawn } = ChildProcess.prototype;
  ChildProcess.prototype.spawn = function (...options) {
    const result = spawn.apply(this, options);
    quietly(() => follow(this));
    return result;
  };
}

quietly(() => {
  if (!require("node:worker_threads").isMainThread) return;
  const program = basename(process.argv[1] ?? "");
  if (JOB.test(program) || INFERENCE.test(program)) giveBackUrl();
  else followChildren();
  if (JOB.test(program)) tell("process", process.pid);
});
