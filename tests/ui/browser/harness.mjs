// A server over a folder of its own, and a Chromium that may reach nothing but this machine.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const REPOSITORY = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "..");
const require = createRequire(join(REPOSITORY, "ui", "package.json"));
export const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const SERVE = "import sys; from ui.server.main import main; sys.exit(main(sys.argv[1:]))";
/** A phone, and a laptop at 200 % zoom: half as many pixels of the page. */
const NARROW = { phone: { width: 390, height: 844 }, zoom: { width: 640, height: 430 } };

/** How a browser is launched. */
export const CHROMIUM = {
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-background-networking"],
};

/** A server with runs that are scripted. `stop` kills it as a power cut would; jobs live on. */
export class Server {
  constructor(folder, { scripted = true, python = process.env.PYTHON || "python" } = {}) {
    this.folder = folder;
    this.python = python;
    this.env = { ...process.env, CUDA_VISIBLE_DEVICES: "" };
    if (scripted) this.env.FLUX2_TRAINER_TEST_PROGRAM = join(REPOSITORY, "tests", "ui", "scripted_run.py");
  }

  async start(port = 0) {
    const given = ["--port", String(port), "--store", join(this.folder, "store"), "--root", this.folder, "--no-browser"];
    this.process = spawn(this.python, ["-c", SERVE, ...given], { cwd: REPOSITORY, env: this.env });
    this.output = "";
    for (const stream of [this.process.stdout, this.process.stderr]) stream.on("data", (data) => (this.output += data));
    await until(() => /#token=\S+/.test(this.output), () => `no address: ${this.output}`);
    this.address = /http\S+#token=\S+/.exec(this.output)[0];
    this.base = new URL(this.address).origin;
    this.port = Number(new URL(this.address).port);
  }

  /** The answer of the API. */
  async ask(method, path, body) {
    const token = new URL(this.address).hash.split("=")[1];
    const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
    const answer = await fetch(this.base + path, { method, headers, body: body && JSON.stringify(body) });
    assert.equal(answer.status, 200, await answer.clone().text());
    return answer.json();
  }

  /** Start a job that trains the tiny model; `scripted` says how its run goes. Returns its id. */
  async make(name, scripted, sections = {}) {
    const process = {
      type: "sd_trainer",
      training_folder: join(this.folder, "output"),
      model: { arch: "flux2_tiny", name_or_path: join(REPOSITORY, "assets", "flux2_tiny") },
      network: { type: "lora" },
      datasets: [{ folder_path: join(this.folder, "images") }],
      ...sections,
    };
    const yaml = JSON.stringify({ job: "extension", config: { name, process: [process] }, meta: { scripted } });
    return (await this.ask("POST", "/api/jobs", { yaml, start: true })).id;
  }

  kill() {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.kill("SIGKILL");
    return ended;
  }
}

/** A server on the folder that the command names, and a browser. `tell` ends both; what was noted makes the story fail. */
export async function begin({ prepare = () => {}, ...options } = {}) {
  const server = new Server(process.argv[2], options);
  prepare(server);
  await server.start();
  const { browser, notes, open } = await openBrowser();
  const tell = async (story, page) => {
    try {
      await story();
      settle(notes);
    } catch (error) {
      if (page && process.env.UI_SHOTS) await page.screenshot({ path: join(process.env.UI_SHOTS, "failed.png") });
      console.error(server.output.slice(-4000));
      throw error;
    } finally {
      await browser.close();
      await server.kill();
    }
  };
  return { folder: server.folder, server, notes, open, tell };
}

export async function until(look, say = () => "", timeout = 60_000) {
  const end = Date.now() + timeout;
  while (Date.now() < end) {
    if (await look()) return;
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
  throw new Error(`nothing came: ${say()}`);
}

/** A browser that notes every console error and every request to another host. */
export async function openBrowser() {
  const shared = process.env.UI_BROWSER; // closing it ends what was opened here, not the browser
  const browser = await (shared ? chromium.connect(shared) : chromium.launch(CHROMIUM));
  const notes = { errors: [], outside: [], axe: [], sideways: [] };
  const open = async (options = {}) => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    await context.route("**/*", (route) => {
      const { hostname, href, protocol } = new URL(route.request().url());
      if (hostname === "127.0.0.1" || protocol === "file:") return route.continue();
      notes.outside.push(href);
      return route.abort();
    });
    context.on("console", (message) => {
      if (message.type() === "error") notes.errors.push(`${message.page()?.url()}: ${message.text()} (${message.location().url})`);
    });
    context.on("weberror", (problem) => notes.errors.push(`${problem.page()?.url()}: ${problem.error().stack}`));
    return context.newPage();
  };
  return { browser, notes, open };
}

/** Hold a page against axe, and its contrasts in the dark scheme too; look whether it fits narrow windows; keep pictures. */
export async function inspect(page, name, notes) {
  const shots = process.env.UI_SHOTS;
  if (shots) mkdirSync(shots, { recursive: true });
  const keep = (as) => shots && page.screenshot({ path: join(shots, `${name}-${as}.png`) });
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
    const found = await page.evaluate(violations, colorScheme === "dark" ? ["color-contrast"] : null);
    for (const violation of found) notes.axe.push({ page: name, colorScheme, ...violation });
    await keep(colorScheme);
  }
  await page.emulateMedia({ colorScheme: "light" });
  const before = page.viewportSize();
  for (const [as, size] of Object.entries(NARROW)) {
    await page.setViewportSize(size);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    const over = await page.evaluate(widestOverflow);
    if (over.px > 0) notes.sideways.push(`${name}: ${over.px} px too wide for ${as} (${over.what})`);
    await keep(as);
  }
  await page.setViewportSize(before);
}

/** What axe finds in the page, by these rules or by all. */
async function violations(rules) {
  const options = { resultTypes: ["violations"], ...(rules && { runOnly: rules }) };
  return (await globalThis.axe.run(document, options)).violations.map(({ id, impact, nodes }) => ({
    id,
    impact,
    nodes: nodes.slice(0, 3).map(({ html, failureSummary }) => `${html.slice(0, 160)} ${failureSummary.slice(0, 200)}`),
  }));
}

/** How far the page, or a dialog or menu before it, sticks out of the window, or its contents out of that. */
function widestOverflow() {
  const page = document.documentElement;
  const found = [{ px: page.scrollWidth - innerWidth, what: "page" }];
  for (const box of document.querySelectorAll("dialog[open], .menu[open] .menu-list")) {
    const { left, right, top, bottom } = box.getBoundingClientRect();
    found.push({ px: Math.max(-left, right - innerWidth, -top, bottom - innerHeight), what: box.className });
    found.push({ px: box.scrollWidth - box.clientWidth, what: `contents of ${box.className}` });
  }
  return found.reduce((most, other) => (other.px > most.px ? other : most));
}

/** Fails with all that was noted. */
export function settle(notes) {
  const wrong = [
    ...notes.errors.map((text) => `console: ${text}`),
    ...notes.outside.map((url) => `request to another host: ${url}`),
    ...notes.sideways,
    ...notes.axe.filter(({ impact }) => ["serious", "critical"].includes(impact)).map((each) => JSON.stringify(each)),
  ];
  const counts = {};
  for (const { impact } of notes.axe) counts[impact] = (counts[impact] ?? 0) + 1;
  console.log("axe violations by impact:", JSON.stringify(counts));
  if (wrong.length) throw new Error(wrong.join("\n"));
}
