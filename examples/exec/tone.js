// Plays a tone: npm install @livekit/rtc-node; last-call run --agent-name tone -- node examples/exec/tone.js

const fs = require("node:fs");
const net = require("node:net");
const readline = require("node:readline");
const { AudioFrame, AudioSource, LocalAudioTrack, Room, TrackPublishOptions, dispose } = require("@livekit/rtc-node");

const [RATE, FRAME] = [48000, 480];

async function main() {
  const job = JSON.parse(fs.readFileSync(3, "utf8"));
  const control = new net.Socket({ fd: 4 });
  control.write('{"type":"ready"}\n');
  const room = new Room();
  await room.connect(job.url, job.token, { autoSubscribe: false });
  const source = new AudioSource(RATE, 1);
  const track = LocalAudioTrack.createAudioTrack("tone", source);
  await room.localParticipant.publishTrack(track, new TrackPublishOptions());
  console.log(`playing in ${room.name}`);
  let playing = true;
  readline.createInterface({ input: control }).on("line", (line) => {
    if (JSON.parse(line).type === "shutdown") playing = false;
  });
  for (let at = 0; playing; at += FRAME) {
    const sample = (_, i) => 8000 * Math.sin((2 * Math.PI * 440 * (at + i)) / RATE);
    await source.captureFrame(new AudioFrame(Int16Array.from({ length: FRAME }, sample), RATE, 1, FRAME));
  }
  await room.disconnect();
  await dispose();
}

main().then(() => process.exit(0), (error) => {
  console.error(error.message);
  process.exit(1);
});
