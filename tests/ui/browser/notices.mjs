// A tab tells how far a job is; a browser and a webhook tell that it is done, also while nobody sees the page.
//   node tests/ui/browser/notices.mjs FOLDER     FOLDER holds `images`
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createServer } from "node:http";
import { join } from "node:path";
import { begin, inspect, REPOSITORY, until } from "./harness.mjs";

const { server, folder, notes, open, tell } = await begin();
const got = [];
const receiver = createServer((request, answer) => {
  let text = "";
  request.on("data", (data) => (text += data));
  request.on("end", () => {
    got.push(JSON.parse(text));
    answer.end("thanks");
  });
}).listen(0, "127.0.0.1");

await tell(async () => {
  const page = await open({ permissions: ["notifications"] });
  await page.addInitScript(recordNotices);
  await page.goto(server.address);
  await page.getByRole("link", { name: "Settings" }).click();
  await setUp(page);
  await watch(page);
  receiver.close();
});

/** Chromium shows nothing without a desktop: what would be shown is kept. */
function recordNotices() {
  globalThis.shownNotices = [];
  class Shown extends EventTarget {
    static permission = "granted";
    static requestPermission = async () => "granted";
    constructor(title, { body, tag }) {
      super();
      Object.assign(this, { title, body, tag, close() {} });
      globalThis.shownNotices.push(this);
    }
  }
  globalThis.Notification = Shown;
}

async function setUp(page) {
  const form = page.getByRole("form", { name: "Webhook" });
  assert.equal(await form.getByRole("button", { name: "Send a test" }).isDisabled(), true);
  await page.getByLabel("Notifications in this browser").check();
  await form.getByRole("combobox", { name: "Webhook" }).selectOption("json");
  await form.getByLabel("Webhook address").fill("gopher://x");
  await form.getByRole("button", { name: "Send a test" }).click();
  await form.getByText("must begin with https://").waitFor();
  // a refused request is noted by the browser itself
  notes.errors = notes.errors.filter((text) => !text.includes("422"));
  await form.getByLabel("Webhook address").fill(`http://127.0.0.1:${receiver.address().port}/hook`);
  await form.getByRole("button", { name: "Send a test" }).click();
  await form.getByText("The test was accepted. The answer: HTTP 200: thanks").waitFor();
  assert.equal(await form.getByLabel("Webhook address").inputValue(), "", "what was saved is not shown");
  assert.equal(got.length, 1);
  await inspect(page, "settings-notices", notes);
}

async function watch(page) {
  await page.evaluate(() => Object.defineProperty(document, "hidden", { value: true, configurable: true }));
  const images = join(folder, "images");
  const config = {
    name: "cats",
    process: [{
      type: "sd_trainer", training_folder: join(folder, "output"), datasets: [{ folder_path: images }],
      model: { arch: "flux2_tiny", name_or_path: join(REPOSITORY, "assets", "flux2_tiny") },
      network: { type: "lora" }, train: { steps: 100 }, sample: { sample_every: 0 },
    }],
  };
  const yaml = JSON.stringify({ job: "extension", config, meta: { scripted: { step_s: 0.03 } } });
  const { id } = await server.ask("POST", "/api/jobs", { yaml, start: false });
  // in a terminal, as it were: the queue would check it first
  spawn(server.python, [server.env.FLUX2_TRAINER_TEST_PROGRAM, join(folder, "output", "cats", "job.yaml")], { cwd: REPOSITORY });
  const icon = () => page.locator("link[rel=icon]").getAttribute("href");
  const titles = new Set();
  await until(async () => titles.add(await page.title()) && /^[1-9]\d? % cats · Settings$/.test(await page.title()), () => [...titles].join());
  assert.match(decodeURIComponent(await icon()), /^data:image\/svg\+xml,.*stroke-dasharray/);
  await until(() => got.length > 1, () => "no call of the webhook");
  assert.equal(got[1].title, "cats: done");
  const shown = () => page.evaluate(() => globalThis.shownNotices.map(({ title }) => title));
  await until(async () => (await shown()).length, () => "no notification");
  assert.deepEqual(await shown(), ["cats: done"]);
  await until(async () => (await page.title()) === "Settings · Trainer", () => "a title that stays");
  assert.equal(await icon(), "/favicon.svg");
  await page.evaluate(() => delete document.hidden);
  await page.evaluate(() => globalThis.shownNotices[0].dispatchEvent(new Event("click")));
  await page.waitForURL(`**/jobs/${id}`);
}
