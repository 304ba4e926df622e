// The page in Chromium over a large store, made by `python -m benchmarks.ui_store FOLDER`: how soon things are painted.
//   node benchmarks/ui_browser.mjs FOLDER [RESULTS.json]
import { rmSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { openBrowser, Server } from "../tests/ui/browser/harness.mjs";

const [folder, results] = process.argv.slice(2);
const rows = [];
rmSync(join(folder, "store", "thumbs"), { recursive: true, force: true }); // cold
const server = new Server(folder);
await server.start();
const token = new URL(server.address).hash.split("=")[1];
const { browser, notes, open } = await openBrowser();

try {
  const ids = await jobIds();
  const page = await open({ reducedMotion: "reduce" });
  page.setDefaultTimeout(120_000);
  await page.goto(server.address);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await paint(page);
  await clicks(page, ids);
  await samples(page, ids);
  await log(page, ids);
  await curves(page, ids);
  note("console errors and requests to other hosts", notes.errors.length + notes.outside.length, 0, "");
} finally {
  await browser.close();
  await server.kill();
}
console.log(`| what (${cpus().length} cores) | measured | goal |\n|---|---|---|`);
for (const { what, value, goal, unit } of rows) console.log(`| ${what} | ${value}${unit && ` ${unit}`} | ${goal ?? ""} |`);
if (results) writeFileSync(results, `${JSON.stringify({ cores: cpus().length, figures: rows }, null, 2)}\n`);

function note(what, value, goal = null, unit = "ms") {
  rows.push({ what, value: Math.round(value), goal, unit });
}

async function jobIds() {
  const answer = await fetch(`${server.base}/api/jobs?limit=5000`, { headers: { Authorization: `Bearer ${token}` } });
  return Object.fromEntries((await answer.json()).jobs.map(({ name, id }) => [name, id]));
}

/** Milliseconds from the start of the navigation until these elements are on the screen. */
async function loaded(page, path, selector) {
  await page.goto(server.base + path, { waitUntil: "commit" });
  await page.waitForSelector(selector);
  return page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now())))));
}

/** Milliseconds from a click until what it asks for is painted: pictures in view are whole, canvases drawn. */
function clicked(page, target, wanted) {
  return page.evaluate(
    async ([target, wanted]) => {
      const find = ([css, text]) => [...document.querySelectorAll(css)].find((each) => !text || each.textContent.includes(text));
      const isIn = (box) => box.bottom > 0 && box.top < innerHeight && box.width > 0;
      const arePicturesWhole = () =>
        [...document.querySelectorAll("main img")].every((each) => !isIn(each.getBoundingClientRect()) || (each.complete && each.naturalWidth));
      const frame = () => new Promise(requestAnimationFrame);
      const start = performance.now();
      find(target).click();
      do await frame();
      while (!find(wanted) || !arePicturesWhole());
      await frame();
      return performance.now() - start;
    },
    [target, wanted],
  );
}

async function paint(page) {
  note("first paint of the jobs list", await loaded(page, "/jobs", ".job-row"), 1500);
  note("first paint of home", await loaded(page, "/", ".job-cards li"), 1500);
}

async function clicks(page, ids) {
  await loaded(page, "/jobs", ".job-row");
  note("click to paint: filter", await clicked(page, [".filters label input:not(:checked)"], [".empty-title"]), 200);
  await loaded(page, "/jobs", ".job-row");
  note("click to paint: open a job, first time", await clicked(page, [".job-row a"], [".tabs"]));
  await loaded(page, `/jobs/${ids.job_9}`, ".chart canvas");
  for (const tab of ["Settings", "Checkpoints", "Overview"])
    note(`click to paint: ${tab}`, await clicked(page, ["[role=tab]", tab], [`#job-panel[aria-labelledby$=${tab.toLowerCase()}] > *`]), 200);
  await page.getByRole("link", { name: /^Jobs/ }).click();
  await page.waitForSelector(".job-row");
  note("click to paint: open a job", await clicked(page, [".job-row:nth-child(1) a", "job_"], [".tabs"]), 200);
}

async function samples(page, ids) {
  await loaded(page, `/jobs/${ids.job_0}`, ".tabs");
  note("10,000 samples: first view, cold", await clicked(page, ["[role=tab]", "Samples"], [".prompt-grid img"]), 1000);
  note("10,000 samples: all steps, cold", await clicked(page, ["label", "All steps"], [".matrix-button img"]), 1000);
  const scrolled = (to) =>
    page.evaluate(async (to) => {
      const frame = () => new Promise(requestAnimationFrame);
      const isIn = (box) => box.bottom > 0 && box.top < innerHeight;
      const start = performance.now();
      scrollTo(0, to * document.documentElement.scrollHeight);
      await frame();
      await frame();
      for (;;) {
        const shown = [...document.querySelectorAll(".matrix-button img")].filter((each) => isIn(each.getBoundingClientRect()));
        if (shown.length && shown.every((each) => each.complete && each.naturalWidth)) break;
        await frame();
      }
      return performance.now() - start;
    }, to);
  note("10,000 samples: scrolled to the middle, cold", await scrolled(0.5), 1000);
  await scrolled(0);
  note("10,000 samples: scrolled to the middle, warm", await scrolled(0.5), 200);
}

async function log(page, ids) {
  await loaded(page, `/jobs/${ids.job_0}`, ".tabs");
  note("100 MB log: last lines, first time", await clicked(page, ["[role=tab]", "Log"], [".log-text", "needle"]), 1500);
  const start = Date.now();
  await page.getByRole("searchbox", { name: "Search the log" }).fill("needle");
  await page.waitForSelector(".log-line.is-match mark");
  note("100 MB log: a search", Date.now() - start, 1500);
}

async function curves(page, ids) {
  note("1,000,000 points: page opened, never read before", await loaded(page, `/jobs/${ids.job_1}`, ".chart canvas"));
  note("1,000,000 points: drawn", await loaded(page, `/jobs/${ids.job_1}`, ".chart canvas"), 1000);
  const start = Date.now();
  await page.getByLabel("First step shown").fill("400000");
  await page.waitForResponse((answer) => answer.url().includes("from=400000"));
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
  note("1,000,000 points: another range drawn", Date.now() - start, 1000);
}
