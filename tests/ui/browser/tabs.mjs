// Two tabs share one stream of events; a queue is ordered by keys; a run is stopped at once; a failure is explained.
//   node tests/ui/browser/tabs.mjs FOLDER     FOLDER holds `images`
import assert from "node:assert/strict";
import { join } from "node:path";
import { inspect, openBrowser, REPOSITORY, Server, settle, until } from "./harness.mjs";

const folder = process.argv[2];
const server = new Server(folder);
await server.start();
const token = new URL(server.address).hash.split("=")[1];
const { browser, notes, open } = await openBrowser();

try {
  const long = await make("long", { step_s: 0.1 });
  const failing = await make("failing", { step_s: 0.01, fail_at: 3 });
  await make("waiting", {});
  const [first, second, asked] = await openTabs(`/jobs/${long}`);
  await bothLive([first, second]);
  assert.equal(asked.size, 1, "one tab reads the stream for both");
  const [leader] = asked;
  const rest = leader === first ? second : first;
  await leader.close();
  await bothLive([rest]);
  assert.ok(asked.has(rest), "the other tab goes on with the stream");
  await orderQueue(rest);
  await stopAtOnce(rest, long);
  await readFailure(rest, failing);
  settle(notes);
} catch (error) {
  console.error(server.output.slice(-4000));
  throw error;
} finally {
  await browser.close();
  await server.kill();
}

async function openTabs(path) {
  const asked = new Set(); // tabs with an open stream
  const tabs = [await open()];
  tabs.push(await tabs[0].context().newPage());
  for (const tab of tabs) {
    tab.setDefaultTimeout(60_000);
    const isStream = (request) => request.url().includes("/api/events");
    tab.on("request", (request) => isStream(request) && asked.add(tab));
    for (const end of ["requestfailed", "requestfinished"]) tab.on(end, (request) => isStream(request) && asked.delete(tab));
    await tab.goto(server.address);
    await tab.getByRole("heading", { name: "Home" }).waitFor();
    await tab.goto(server.base + path);
  }
  return [...tabs, asked];
}

async function bothLive(tabs) {
  const step = async (tab) => Number((await tab.locator(".live-figures dd").first().innerText()).split("/")[0]);
  for (const tab of tabs) {
    const before = await step(tab);
    await until(async () => (await step(tab)) >= before + 3, () => "a tab that stands still");
  }
}

async function orderQueue(page) {
  await page.goto(`${server.base}/jobs`);
  const names = () => page.locator(".queue-list a").allInnerTexts();
  await until(async () => (await names()).join() === "failing,waiting", names);
  await page.getByRole("link", { name: "failing" }).first().focus();
  await page.keyboard.press("Alt+ArrowDown");
  await until(async () => (await names()).join() === "waiting,failing", names);
  await page.getByLabel("Move failing up").click();
  await until(async () => (await names()).join() === "failing,waiting", names);
  await page.getByRole("searchbox", { name: "Search jobs" }).fill("failing");
  await until(async () => (await page.locator(".job-row").count()) === 1, () => "the search");
  await inspect(page, "jobs-queue", notes);
}

async function stopAtOnce(page, id) {
  await page.goto(`${server.base}/jobs/${id}`);
  await page.getByText("More", { exact: true }).click();
  await inspect(page, "job-menu-live", notes);
  await page.getByRole("button", { name: "Force stop…" }).click();
  await inspect(page, "job-kill", notes);
  await page.getByRole("button", { name: "Stop without saving" }).click();
  await page.locator(".page-title .state", { hasText: /Stopped|Interrupted|Killed/ }).waitFor();
}

async function readFailure(page, id) {
  await page.goto(`${server.base}/jobs/${id}`);
  await page.locator(".page-title .state", { hasText: "Failed" }).waitFor();
  await page.getByRole("heading", { name: "the script said so" }).waitFor();
  await inspect(page, "job-failed", notes);
}

async function make(name, scripted) {
  const process = {
    type: "sd_trainer",
    training_folder: join(folder, "output"),
    model: { arch: "flux2_tiny", name_or_path: join(REPOSITORY, "assets", "flux2_tiny") },
    network: { type: "lora" },
    datasets: [{ folder_path: join(folder, "images") }],
    train: { steps: 900 },
    sample: { sample_every: 0 },
  };
  const yaml = JSON.stringify({ job: "extension", config: { name, process: [process] }, meta: { scripted } });
  const answer = await fetch(`${server.base}/api/jobs`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ yaml, start: true }),
  });
  assert.equal(answer.status, 200, await answer.clone().text());
  return (await answer.json()).id;
}
