// Opens pages in a headless Chromium and does what standard input says, one JSON object a line: {"open": URL, "width",
// "height", "dark"}, {"until": EXPRESSION}, {"value": EXPRESSION}, {"press": KEY}, {"shot": PATH}, {"problems": true}.
// Answers each with one line of JSON. Problems are what the console said, what the page threw, what its policy refused,
// and every request that went elsewhere.
//
// argv: the browser's program. The package is found by NODE_PATH. Ends with its standard input.

const { createInterface } = require("node:readline");
const { launch } = require("puppeteer-core");

const PATIENCE = 60_000;

async function main() {
  // A container's root has no sandbox, and its /dev/shm is small.
  const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"];
  // Over a pipe, so that it ends with this process however that ends.
  const browser = await launch({ executablePath: process.argv[2], args, pipe: true, timeout: PATIENCE });
  const page = await browser.newPage();
  page.setDefaultTimeout(PATIENCE);
  let problems = [];
  let home = "";
  page.on("console", (message) => problems.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`error: ${error.stack}`));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith("data:") && !url.startsWith(home)) problems.push(`request: ${url}`);
  });
  const orders = {
    async open({ open, width, height, dark }) {
      home = open;
      await page.setViewport({ width, height, deviceScaleFactor: width < 500 ? 2 : 1, hasTouch: width < 500 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }]);
      await page.goto(open);
    },
    until: ({ until }) => page.waitForFunction(until, { polling: 50 }).then(() => true),
    value: ({ value }) => page.evaluate(value),
    press: ({ press }) => page.keyboard.press(press),
    shot: ({ shot }) => page.screenshot({ path: shot, fullPage: true }).then(() => shot),
    problems: () => problems.splice(0),
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const order = JSON.parse(line);
    const name = Object.keys(order).find((key) => key in orders);
    const answer = await orders[name](order);
    console.log(JSON.stringify({ answer: answer ?? null }));
  }
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
