// The story of the simple page in a real browser: drop, caption, check, start, close the tab, come back, stop.
// Arguments: the page's address, a folder of pictures with captions. Prints what it has seen as one line of JSON.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { chromium } from "../../../ui/node_modules/playwright-core/index.mjs";

const [address, folder] = process.argv.slice(2);
const faults = [];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking"],
});

async function open() {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1600 } });
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("request", (request) => {
    if (!/^(http:\/\/127\.0\.0\.1|data:|blob:)/.test(request.url())) faults.push(`asked ${request.url()}`);
  });
  await page.goto(address);
  return page;
}

function input(page, id) {
  return page.locator(`#${id} input, #${id} textarea`).first();
}

async function until(page, label, pattern, seconds) {
  const field = input(page, label);
  for (const end = Date.now() + seconds * 1000; ; await page.waitForTimeout(200)) {
    const text = await field.inputValue();
    if (pattern.test(text)) return text;
    if (Date.now() > end) throw new Error(`${label} never matched ${pattern}; it is: ${text}`);
  }
}

try {
  let page = await open();
  await input(page, "model").click();
  await page.getByRole("option", { name: "FLUX.2 tiny (demo)" }).click();
  await input(page, "name").fill("from the page");
  await input(page, "trigger").fill("zorbo");
  await page.getByRole("button", { name: "Start" }).click();
  const refused = await until(page, "said", /./, 20);
  await page.setInputFiles("#files input[type=file]", readdirSync(folder).map((name) => join(folder, name)));
  await until(page, "said", /pictures in/, 60);
  await input(page, "steps").fill("400");
  await input(page, "prompts").fill("a zorbo at the top on a red background");
  await page.getByRole("button", { name: "Check and plan" }).click();
  const plan = await until(page, "said", /400 steps/, 90);
  await page.getByRole("button", { name: "Start" }).click();
  await until(page, "state", /training[^]*step \d+ of 400/, 240);
  await page.close();
  page = await open();
  const state = await until(page, "state", /step \d+ of 400/, 30);
  await page.locator("#samples img").first().waitFor({ timeout: 60000 });
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT, fullPage: true });
  await page.getByRole("button", { name: "Stop and save" }).click();
  const ended = await until(page, "state", /interrupted|stopped/i, 60);
  console.log(JSON.stringify({ refused, plan, state, ended, faults }));
} finally {
  await browser.close();
}
