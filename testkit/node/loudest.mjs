// What both participants on Node measure what they hear by: in a process, and in a page.

const RATE = 48000;

// The loudest tone of 200 to 1,500 Hz, and its share of the power.
export function loudest(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0);
  let best = [0, 0];
  for (let hertz = 200; hertz < 1500 && power; hertz += 20) {
    const turn = 2 * Math.cos((2 * Math.PI * hertz) / RATE);
    let [one, two] = [0, 0];
    for (const sample of samples) [one, two] = [sample + turn * one - two, one];
    const share = (2 * (one * one + two * two - turn * one * two)) / (power * samples.length);
    if (share > best[1]) best = [hertz, share];
  }
  return best;
}
