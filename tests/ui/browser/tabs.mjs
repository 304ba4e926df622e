// Two tabs share one stream of events; a queue is ordered by keys; a run is stopped at once; a failure is explained.
//   node tests/ui/browser/tabs.mjs FOLDER     FOLDER holds `images`
import assert from "node:assert/strict";
import { begin, inspect, until } from "./harness.mjs";

const { server, notes, open, tell } = await begin();

await tell(async () => {
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
  await lookAway(rest, long);
  await orderQueue(rest);
  await stopAtOnce(rest, long);
  await readFailure(rest, failing);
});

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

/** A tab that nobody sees draws nothing; seen again, it is where the run is. */
async function lookAway(tab, id) {
  const shown = async () => Number((await tab.locator(".live-figures dd").first().innerText()).split("/")[0]);
  const real = async () => (await server.ask("GET", `/api/jobs/${id}`)).progress.step;
  await tab.evaluate(() => Object.defineProperty(document, "hidden", { value: true, configurable: true }));
  const before = await shown();
  await until(async () => (await real()) >= before + 20, () => "a run that stands still");
  assert.ok((await shown()) < before + 10, "a hidden tab draws nothing");
  await tab.evaluate(() => {
    delete document.hidden;
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await until(async () => (await shown()) >= before + 20, () => "a tab that does not catch up");
  await bothLive([tab]);
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

function make(name, scripted) {
  return server.make(name, scripted, { train: { steps: 900 }, sample: { sample_every: 0 } });
}
