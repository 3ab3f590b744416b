// Joins a room by the official @livekit/rtc-node and stays until standard input ends: does and says what
// testkit/python/participant.py does with "publish" and "listen", in one room, but for its lines "event".
//
// LIVEKIT_URL, LIVEKIT_TOKEN and LIVEKIT_E2EE_KEY come from the environment; the package is found by NODE_PATH.

import { createRequire } from "node:module";
import { env, exit, stdin } from "node:process";

import { loudest } from "./loudest.mjs";

// NODE_PATH counts for `require` alone.
const rtc = createRequire(import.meta.url)("@livekit/rtc-node");

const RATE = 48000;
const FRAME = RATE / 100;

async function publish({ localParticipant }) {
  const source = new rtc.AudioSource(RATE, 1);
  const track = rtc.LocalAudioTrack.createAudioTrack("tone", source);
  const options = new rtc.TrackPublishOptions({ source: rtc.TrackSource.SOURCE_MICROPHONE });
  const { sid } = await localParticipant.publishTrack(track, options);
  console.log(`published ${sid}`);
  for (let phase = 0; ; phase = (phase + FRAME) % RATE) {
    const sample = (_, i) => 8000 * Math.sin((2 * Math.PI * 440 * (phase + i)) / RATE);
    await source.captureFrame(new rtc.AudioFrame(Int16Array.from({ length: FRAME }, sample), RATE, 1, FRAME));
  }
}

async function listen(track, { identity }) {
  let samples = [];
  for await (const { data } of new rtc.AudioStream(track, RATE, 1)) {
    samples.push(...data);
    if (samples.length < RATE / 10) continue;
    const [hertz, share] = loudest(samples.slice(0, RATE / 10));
    console.log(`hears ${identity} ${hertz} ${share.toFixed(3)}`);
    samples = [];
  }
}

async function answer({ localParticipant }, payload, from, topic) {
  if (topic === "ping") await localParticipant.publishData(payload, { reliable: true, topic: "pong" });
  if (topic !== "call" || !from) return;
  const call = { destinationIdentity: from.identity, method: "add", payload: new TextDecoder().decode(payload) };
  const said = await localParticipant.performRpc(call).catch(({ code }) => `error ${code}`);
  await localParticipant.publishData(new TextEncoder().encode(said), { reliable: true, topic: "called" });
}

const room = new rtc.Room();
room.on("disconnected", (reason) => {
  console.log(`left ${reason}`);
  exit(0);
});
room.on("trackSubscribed", (track, _, other) => {
  if (track.kind === rtc.TrackKind.KIND_AUDIO) listen(track, other);
});
room.on("dataReceived", (payload, from, _, topic) => answer(room, payload, from, topic));
const keys = env.LIVEKIT_E2EE_KEY && { sharedKey: new TextEncoder().encode(env.LIVEKIT_E2EE_KEY) };
await room.connect(env.LIVEKIT_URL, env.LIVEKIT_TOKEN, keys ? { encryption: { keyProviderOptions: keys } } : {});
const { localParticipant } = room;
localParticipant.registerRpcMethod("greet", async (call) => `hello ${call.payload} from ${call.callerIdentity}`);
console.log(`joined ${localParticipant.identity}`);
stdin.resume().on("end", async () => {
  // The end that follows is no news.
  room.removeAllListeners("disconnected");
  await room.disconnect();
  exit(0);
});
await publish(room);
