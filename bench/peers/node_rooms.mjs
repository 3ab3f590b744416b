// What examples/src/bin/rooms.rs does, by the official @livekit/rtc-node, as python_rooms.py does it by the Python SDK: many rooms
// in one process, without a worker. The package is found by NODE_PATH.
//
// argv: echo or pair. Says "up", reads tokens from standard input, a line each, up to an empty one.

import { createRequire } from "node:module";
import { argv, env, exit, stdin } from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

// NODE_PATH counts for `require` alone.
const rtc = createRequire(import.meta.url)("@livekit/rtc-node");

const RATE = 48000;
const FRAME = RATE / 50;
const LOUD = 500;
const BURSTS = 100;

async function join(token) {
  const room = new rtc.Room();
  const track = new Promise((found) => room.on("trackSubscribed", found));
  await room.connect(env.LIVEKIT_URL, token);
  return { room, track };
}

async function publish({ room }) {
  const source = new rtc.AudioSource(RATE, 1);
  const track = rtc.LocalAudioTrack.createAudioTrack("tone", source);
  const options = new rtc.TrackPublishOptions({ source: rtc.TrackSource.SOURCE_MICROPHONE, dtx: false });
  await room.localParticipant.publishTrack(track, options);
  return source;
}

async function echo(call) {
  const source = await publish(call);
  for await (const frame of new rtc.AudioStream(await call.track, RATE, 1)) await source.captureFrame(frame);
}

function burst(loud) {
  const sample = (_, i) => (loud ? 10000 * Math.sin((2 * Math.PI * 440 * i) / RATE) : 0);
  return new rtc.AudioFrame(Int16Array.from({ length: FRAME }, sample), RATE, 1, FRAME);
}

async function way(speaker, listener) {
  const source = await publish(speaker);
  const [tone, silence] = [burst(true), burst(false)];
  const ways = [];
  let said;
  const speak = async () => {
    let due = performance.now();
    for (let index = 0; ways.length <= BURSTS; index++) {
      const loud = index % 13 === 12;
      if (loud) said = performance.now();
      await source.captureFrame(loud ? tone : silence);
      // What comes late is not caught up with: it would wait in the source, and be counted.
      due = Math.max(due + 20, performance.now() - 5);
      await sleep(Math.max(0, due - performance.now()));
    }
  };
  const speaking = speak();
  let quiet = true;
  for await (const { data } of new rtc.AudioStream(await listener.track, RATE, 1)) {
    const loud = data.some((sample) => Math.abs(sample) > LOUD);
    if (loud && quiet && said) {
      ways.push(performance.now() - said);
      said = undefined;
    }
    quiet = !loud;
    if (ways.length > BURSTS) break;
  }
  await speaking;
  return ways.slice(1);
}

async function pairs(tokens) {
  const connects = [];
  let ways = [];
  for (let index = 0; index + 1 < tokens.length; index += 2) {
    const calls = [];
    for (const token of tokens.slice(index, index + 2)) {
      const begun = performance.now();
      calls.push(await join(token));
      connects.push(performance.now() - begun);
    }
    if (index === 0) ways = await way(...calls);
    for (const { room } of calls) await room.disconnect();
  }
  console.log(JSON.stringify({ connect_ms: connects, way_ms: ways }));
}

console.log("up");
const lines = createInterface({ input: stdin })[Symbol.asyncIterator]();
const tokens = [];
for (let line; (line = (await lines.next()).value); ) tokens.push(line);
if (argv[2] === "pair") {
  await pairs(tokens);
} else {
  for (const token of tokens) echo(await join(token));
  console.log(`joined ${tokens.length}`);
  await lines.next();
}
exit(0);
