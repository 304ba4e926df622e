// Two runs beside each other: a film strip, curves of other runs, a ghost, what a clone has changed; then a queue.
//   node tests/ui/browser/compare.mjs FOLDER     FOLDER holds `images`; UI_SHOTS=DIR keeps a picture of every page
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { begin, inspect, until } from "./harness.mjs";

const { server, notes, open, tell } = await begin({ prepare: addCard });
const page = await open({ reducedMotion: "reduce" });
page.setDefaultTimeout(15_000);
const button = (name) => page.getByRole("button", { name, exact: true });

await tell(async () => {
  const [first, second] = [await make("first"), await make("second")];
  await until(async () => (await server.ask("GET", `/api/jobs/${second}`)).state === "done", () => "the second run is not done", 120_000);
  await page.goto(server.address);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await scrub(second);
  await compareCharts(first);
  await goBack(second);
  await foresee();
}, page);

async function scrub(id) {
  await page.goto(`${server.base}/jobs/${id}/samples`);
  await page.getByText("Film strip").click();
  const frame = (step) => page.getByRole("button", { name: `step ${step}`, exact: true });
  await frame(0).click();
  const picture = page.locator(".film-picture img");
  assert.match(await picture.getAttribute("alt"), /^Step 0: a red one/);
  await page.keyboard.press("End"); // as the slider does
  await page.locator(".film-frame[aria-current]", { hasText: "60" }).waitFor();
  assert.match(await picture.getAttribute("alt"), /^Step 60:/);
  await page.getByRole("combobox", { name: "Prompt" }).selectOption({ index: 1 });
  assert.match(await picture.getAttribute("alt"), /: a blue one/);
  await inspect(page, "job-film", notes);
}

async function compareCharts(first) {
  await page.getByRole("tab", { name: "Overview" }).click();
  const chart = page.getByRole("figure", { name: "Loss" });
  await chart.locator("canvas").waitFor();
  await button("Compare…").click();
  const dialog = page.getByRole("dialog", { name: "Compare charts" });
  await dialog.getByText("Previous run").click();
  await dialog.getByText("For this job: first.").waitFor();
  await inspect(page, "compare-dialog", notes);
  await button("Back to charts").click();
  await chart.getByText("(ghost)").waitFor();
  await button("Compare…").click();
  await dialog.getByRole("checkbox").first().check();
  await button("Back to charts").click();
  assert.equal(new URL(page.url()).searchParams.get("with"), first);
  await page.reload(); // a link shows the same
  await chart.getByRole("link", { name: "first" }).waitFor();
  assert.equal(await chart.getByText("(ghost)").count(), 0, "a run that was chosen is not its own ghost");
  await inspect(page, "job-compared", notes);
  for (const tab of ["Log", "Overview"]) await page.getByRole("tab", { name: tab }).click();
  await chart.getByRole("link", { name: "first" }).waitFor();
  await chart.getByRole("button", { name: "Show Loss as a table" }).click();
  const cells = (row) => chart.locator("tbody tr").nth(row).locator("td").allInnerTexts();
  const heads = await chart.locator("thead th").allInnerTexts();
  assert.deepEqual(heads, ["Step", "Loss", "first"]);
  const [own, other] = await cells(2);
  assert.ok(own !== other && Number(own) > 0 && Number(other) > 0, `${own} and ${other}`);
  const metrics = await server.ask("GET", `/api/jobs/${first}/metrics?keys=loss`);
  assert.ok(Math.abs(metrics.series[0].mean[2] - Number(other)) < 1e-3, "the table holds the other run's figures");
}

/** A clone says what it has changed, and takes it back. */
async function goBack(id) {
  await page.goto(`${server.base}/jobs/${id}`);
  await page.getByText("More", { exact: true }).click();
  await inspect(page, "job-menu", notes);
  await button("Clone…").click();
  await page.getByRole("dialog", { name: "Clone job" }).waitFor();
  await inspect(page, "clone-dialog", notes);
  await page.getByLabel("New job name").fill("third");
  await button("Create draft").click();
  await page.getByRole("heading", { name: "Edit third" }).waitFor();
  const changes = page.getByRole("region", { name: "Changes" });
  await changes.getByText("No settings differ.").waitFor();
  await page.getByLabel("Learning rate", { exact: true }).fill("5e-5");
  await page.getByLabel("Rank", { exact: true }).fill("16");
  await page.getByLabel("Steps", { exact: true }).fill("90");
  await changes.getByText("3 settings changed").waitFor();
  await inspect(page, "clone-changes", notes);
  await button("Revert Rank to 8").click();
  assert.equal(await page.getByLabel("Rank", { exact: true }).inputValue(), "8");
  await button("Revert all").click();
  await changes.getByText("No settings differ.").waitFor();
  assert.equal(await page.getByLabel("Steps", { exact: true }).inputValue(), "60");
  await page.getByRole("button", { name: "Undo" }).last().click();
  await changes.getByText("2 settings changed").waitFor();
}

/** Who holds the card, and when each waiting job will start. */
async function foresee() {
  await make("long", { step_s: 0.1, gpu_bytes: 7 * 1024 ** 3 }, 9000);
  for (const name of ["next", "last"]) await make(name);
  await page.goto(`${server.base}/jobs`);
  const starts = page.locator(".queue-start", { hasText: /^Starts (around|between) / });
  await until(async () => (await starts.count()) === 2, async () => `${await page.locator(".queue-list").allInnerTexts()}`);
  await inspect(page, "jobs-planned", notes);
  await page.goto(server.base);
  const legend = page.locator(".tile .legend");
  await legend.waitFor();
  assert.match(await legend.innerText(), /long\s+7\.0 GiB\s+Other programs and driver\s+3\.0 GiB\s+Free\s+14\.0 GiB/);
  await page.locator(".job-card", { hasText: /Starts (around|between) / }).first().waitFor();
  await inspect(page, "home-busy", notes);
  for (const job of (await server.ask("GET", "/api/jobs")).jobs.filter(({ queue_position }) => queue_position)) await server.ask("POST", `/api/jobs/${job.id}/stop`, {});
  const { jobs } = await server.ask("GET", "/api/jobs");
  await server.ask("POST", `/api/jobs/${jobs.find(({ name }) => name === "long").id}/kill`, {});
}

function make(name, scripted = { step_s: 0.02 }, steps = name === "first" ? 40 : 60) {
  return server.make(name, scripted, {
    network: { type: "lora", linear: 8 },
    datasets: [{ folder_path: join(server.folder, "images"), resolution: 64 }],
    train: { steps, lr: 1e-4 },
    save: { save_every: 20 },
    sample: { sample_every: 10, width: 64, height: 64, prompts: ["a red one", "a blue one"] },
  });
}

/** A driver with a card of 24 GiB, of which 10 are in use. */
function addCard({ folder, env }) {
  const driver = join(folder, "bin", "nvidia-smi");
  const card = "0, a card of 24 GB, 24576, 10240, 55, 61, 210.5, GPU-0b7f, Disabled, 512, 13824";
  mkdirSync(join(folder, "bin"));
  writeFileSync(driver, `#!/bin/sh\necho '${card}'\n`, { mode: 0o755 });
  env.PATH = join(folder, "bin") + delimiter + env.PATH;
}
