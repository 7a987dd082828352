// A browser that looks at the page: does what its standard input says, a line of JSON each, and answers each with one.
//
//   {"see": EXPRESSION}   waits until it holds in the page, and says after how many milliseconds
//   {"click": SELECTOR}, {"press": KEY}, {"type": TEXT, "into": SELECTOR}
//   {"say": EXPRESSION}   its value
//   {"shot": PATH}        a picture of all of it
//   {"wrong": true}       what went wrong so far: errors in the page, and whom else it asked
const { chromium } = require("playwright-core");
const readline = require("node:readline");

const LONGEST_MS = 60_000;

(async () => {
  const [address, look] = [process.argv[2], JSON.parse(process.argv[3])];
  const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args });
  const page = await (await browser.newContext(look)).newPage();
  page.setDefaultTimeout(LONGEST_MS);
  const wrong = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => new URL(request.url()).origin === new URL(address).origin || wrong.push(`asks ${request.url()}`));
  const deeds = {
    see: async (expression) => {
      const began = Date.now();
      // Not `waitForFunction`: it has the page evaluate a text, which its policy forbids.
      while (!(await page.evaluate(expression))) {
        if (Date.now() - began > LONGEST_MS) throw new Error(`not seen: ${expression}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      return Date.now() - began;
    },
    click: (selector) => page.click(selector),
    press: (key) => page.keyboard.press(key),
    type: (text, { into }) => page.fill(into, text),
    say: (expression) => page.evaluate(expression),
    shot: (path) => page.screenshot({ path, fullPage: true }),
    wrong: () => wrong,
  };
  await page.goto(address);
  console.log(JSON.stringify({ said: "ready" }));
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const wish = JSON.parse(line);
    const [deed] = Object.keys(wish);
    try {
      console.log(JSON.stringify({ said: (await deeds[deed](wish[deed], wish)) ?? null }));
    } catch (error) {
      const shown = await page.evaluate("document.body.innerText").catch(() => "");
      console.log(JSON.stringify({ error: `${error.message}\n${shown}` }));
    }
  }
  await browser.close();
})();
