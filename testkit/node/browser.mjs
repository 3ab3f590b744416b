// Joins a room by the official livekit-client in a headless Chromium, whose microphone is a file with a tone, and stays
// until standard input ends: does and says what participant.mjs does.
//
// argv: the browser's program. LIVEKIT_URL, LIVEKIT_TOKEN and LIVEKIT_E2EE_KEY come from the environment; the packages
// are found by NODE_PATH.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { argv, env, exit, stdin } from "node:process";

const require = createRequire(import.meta.url);
const { launch } = require("puppeteer-core");

const RATE = 48000;
const SECONDS = 10;

// A tone of 440 Hz as a WAV file, that loops without a seam.
function tone() {
  const wav = Buffer.alloc(44 + RATE * SECONDS * 2);
  wav.write("RIFF", 0);
  wav.writeUInt32LE(wav.length - 8, 4);
  wav.write("WAVEfmt ", 8);
  wav.writeUInt32LE(16, 16);
  [1, 1].forEach((word, i) => wav.writeUInt16LE(word, 20 + 2 * i));
  wav.writeUInt32LE(RATE, 24);
  wav.writeUInt32LE(RATE * 2, 28);
  [2, 16].forEach((word, i) => wav.writeUInt16LE(word, 32 + 2 * i));
  wav.write("data", 36);
  wav.writeUInt32LE(wav.length - 44, 40);
  for (let i = 0; i < RATE * SECONDS; i++) {
    wav.writeInt16LE(Math.round(8000 * Math.sin((2 * Math.PI * 440 * i) / RATE)), 44 + 2 * i);
  }
  return wav;
}

// Runs in the page.
async function call(url, token, key) {
  const { Room, ExternalE2EEKeyProvider } = globalThis.LivekitClient;
  const { loudest } = await import("/loudest.mjs");
  const options = { publishDefaults: { dtx: false } };
  if (key) {
    const keyProvider = new ExternalE2EEKeyProvider();
    await keyProvider.setKey(key);
    options.encryption = { keyProvider, worker: new Worker("/worker.mjs", { type: "module" }) };
  }
  const room = new Room(options);
  const bytes = (text) => new TextEncoder().encode(text);

  room.on("disconnected", (reason) => console.log(`left ${reason}`));
  room.on("trackSubscribed", (track, _, { identity }) => {
    if (track.kind !== "audio") return;
    // Chromium decodes what an element plays.
    document.body.append(track.attach());
    const context = new AudioContext({ sampleRate: 48000 });
    const analyser = context.createAnalyser();
    analyser.fftSize = 4096;
    context.createMediaStreamSource(new MediaStream([track.mediaStreamTrack])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const [hertz, share] = loudest(samples);
      console.log(`hears ${identity} ${hertz} ${share.toFixed(3)}`);
    }, 100);
  });
  room.on("dataReceived", async (payload, from, _, topic) => {
    const { localParticipant } = room;
    if (topic === "ping") await localParticipant.publishData(payload, { reliable: true, topic: "pong" });
    if (topic !== "call" || !from) return;
    const asked = { destinationIdentity: from.identity, method: "add", payload: new TextDecoder().decode(payload) };
    const said = await localParticipant.performRpc(asked).catch(({ code }) => `error ${code}`);
    await localParticipant.publishData(bytes(said), { reliable: true, topic: "called" });
  });
  if (key) await room.setE2EEEnabled(true);
  room.registerRpcMethod("greet", async (asked) => `hello ${asked.payload} from ${asked.callerIdentity}`);
  await room.connect(url, token);
  console.log(`joined ${room.localParticipant.identity}`);
  const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const { trackSid } = await room.localParticipant.setMicrophoneEnabled(true, plain);
  console.log(`published ${trackSid}`);
  globalThis.leave = () => room.disconnect();
}

const client = dirname(require.resolve("livekit-client"));
const files = {
  "/client.js": ["text/javascript", readFileSync(join(client, "livekit-client.umd.js"))],
  "/worker.mjs": ["text/javascript", readFileSync(join(client, "livekit-client.e2ee.worker.mjs"))],
  "/loudest.mjs": ["text/javascript", readFileSync(new URL("loudest.mjs", import.meta.url))],
  "/": ["text/html", '<!doctype html><title>caller</title><script src="/client.js"></script>'],
};
const server = createServer(({ url }, response) => {
  const [type, body] = files[url] ?? ["text/plain", ""];
  response.writeHead(files[url] ? 200 : 404, { "content-type": type }).end(body);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

const folder = mkdtempSync(join(tmpdir(), "last-call-microphone-"));
const microphone = join(folder, "tone.wav");
writeFileSync(microphone, tone());
// A container's root has no sandbox, and its /dev/shm is small.
const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"];
args.push("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream");
args.push(`--use-file-for-fake-audio-capture=${microphone}`, "--autoplay-policy=no-user-gesture-required");
// Over a pipe, so that it ends with this process however that ends.
const browser = await launch({ executablePath: argv[2], args, pipe: true, timeout: 60_000 });
const page = await browser.newPage();
page.on("console", (message) => console.log(message.text()));
page.on("pageerror", (error) => console.error(error));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.evaluate(call, env.LIVEKIT_URL, env.LIVEKIT_TOKEN, env.LIVEKIT_E2EE_KEY ?? "");
stdin.resume().on("end", async () => {
  await page.evaluate("leave()");
  await browser.close();
  rmSync(folder, { recursive: true, force: true });
  exit(0);
});
