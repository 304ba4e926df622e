// A job from the first click to done, as a person does it: form, check, start, live steps, samples, stop, resume.
//   node tests/ui/browser/story.mjs FOLDER     FOLDER holds `images`; UI_SHOTS=DIR keeps a picture of every page
import assert from "node:assert/strict";
import { join } from "node:path";
import { begin, inspect, until } from "./harness.mjs";

const { folder, server, notes, open, tell } = await begin();
const page = await open({ reducedMotion: "reduce" });
page.setDefaultTimeout(15_000);
const button = (name) => page.getByRole("button", { name, exact: true });
const tab = (name) => page.getByRole("tab", { name, exact: true }).click();
const state = (word) => page.locator(".page-title .state", { hasText: word }).waitFor({ timeout: 60_000 });
// the first check of a model looks into its files, in a process of its own
const ready = () => page.locator(".verdict", { hasText: "Ready" }).waitFor({ timeout: 120_000 });
const step = async () => Number((await page.locator(".live-figures dd").first().innerText()).split("/")[0].replace(/\D/g, ""));

await tell(async () => {
  await signIn();
  await fillTheForm();
  await checkAndMend();
  await watchItRun();
  await lookAtSamples();
  await stopAndCrashAndResume();
  await lookAround();
}, page);

async function signIn() {
  await page.goto(server.base);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await inspect(page, "sign-in", notes);
  await page.getByLabel("Address or token").fill("not the token");
  await button("Sign in").click();
  await page.getByRole("alert").waitFor();
  forget(/401/);
  await page.goto(server.address);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  assert.equal(new URL(page.url()).hash, "", "the token stays in no address");
  await page.getByText("You haven’t trained anything yet.").waitFor();
  await inspect(page, "home-empty", notes);
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await inspect(page, "keys", notes);
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
}

async function fillTheForm() {
  await page.keyboard.press("n");
  await page.getByRole("heading", { name: "New job" }).waitFor();
  await page.getByLabel("Model", { exact: true }).selectOption("flux2_tiny");
  await page.getByLabel("Name", { exact: true }).fill("story");
  await page.getByLabel("Image folder", { exact: true }).fill("nowhere");
  await page.getByLabel("Steps", { exact: true }).fill("240");
  await page.getByLabel("Save every", { exact: true }).fill("20");
  await page.getByLabel("Sample every", { exact: true }).fill("10");
  for (const prompt of ["a red one", "a blue one"]) {
    await button("Add prompt").click();
    await page.getByRole("textbox", { name: /^Prompt/ }).last().fill(prompt);
  }
  await inspect(page, "new-simple", notes);
  await tab("All settings");
  await page.getByLabel("Search settings").fill("output folder");
  await page.getByLabel("Output folder", { exact: true }).fill(join(folder, "output"));
  await page.getByLabel("Search settings").fill("");
  await inspect(page, "new-full", notes);
}

async function checkAndMend() {
  await page.locator(".verdict", { hasText: "to fix" }).waitFor();
  assert.ok(await button("Start").isDisabled(), "a job with a mistake cannot start");
  await page.getByLabel("Search settings").fill("image folder");
  await page.getByLabel("Image folder", { exact: true }).fill(join(folder, "images"));
  await ready();
  await page.getByLabel("Check").getByText("Datasets").waitFor();
  await tab("YAML");
  const editor = page.locator(".cm-content");
  await editor.waitFor();
  const text = await editor.innerText();
  for (const line of ["name: story", "steps: 240", "arch: flux2_tiny", "a blue one"]) assert.ok(text.includes(line), line);
  await editor.click();
  await page.keyboard.press("Control+End");
  await page.keyboard.insertText("\nmeta: # of this test\n  scripted: {step_s: 0.1}\n");
  await ready();
  await inspect(page, "new-yaml", notes);
  await page.reload();
  await page.locator(".cm-content", { hasText: "of this test" }).waitFor(); // a draft survives
}

async function watchItRun() {
  await ready();
  await button("Start").click();
  await page.getByRole("heading", { name: "story" }).waitFor();
  await state("Training");
  const first = await step();
  await until(async () => (await step()) >= first + 3, () => "no live step");
  await page.locator(".chart canvas").first().waitFor();
  await inspect(page, "job-live", notes);
  await tab("Samples");
  await page.locator(".prompt-grid img").nth(1).waitFor();
  const before = await page.locator(".step-slider output").innerText();
  await until(async () => (await page.locator(".step-slider output").innerText()) !== before, () => "no new sample");
}

async function lookAtSamples() {
  await inspect(page, "job-samples", notes);
  await page.keyboard.press("Home");
  assert.equal(await page.locator(".step-slider output").innerText(), "0");
  await page.keyboard.press("End");
  await page.locator(".picture-button").first().click();
  const viewer = page.locator("dialog.viewer");
  await viewer.waitFor();
  for (const mode of ["Wipe", "Side by side", "Blink", "Wipe"]) await viewer.getByText(mode, { exact: true }).click();
  await viewer.getByLabel("Wipe position").fill("25");
  await inspect(page, "viewer-wipe", notes);
  await viewer.locator(".frame").hover();
  await page.mouse.wheel(0, -600);
  await viewer.locator(".stage.is-zoomed").waitFor();
  await page.keyboard.press("Escape");
  await viewer.waitFor({ state: "detached" });
  await page.keyboard.press("Home"); // the newest would be replaced under the pointer
  await page.locator(".picture").first().getByRole("button", { name: "Star", exact: true }).click();
  await page.locator(".picture").first().getByRole("button", { name: "Remove star" }).waitFor();
  await page.getByText("All steps").click();
  await page.locator(".matrix-button img").nth(3).waitFor();
  await inspect(page, "job-matrix", notes);
}

async function stopAndCrashAndResume() {
  await page.getByRole("button", { name: /^Stop/ }).first().click();
  await state(/Interrupted|Stopped/);
  await button("Resume…").waitFor();
  await server.kill();
  await page.getByText("The server isn’t responding").waitFor();
  await server.start(server.port);
  await page.getByText("The server isn’t responding").waitFor({ state: "detached", timeout: 30_000 });
  forget(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE/);
  const { jobs: [{ id }] } = await server.ask("GET", "/api/jobs");
  const { yaml } = await server.ask("GET", `/api/jobs/${id}`);
  await server.ask("PUT", `/api/jobs/${id}`, { yaml: yaml.replace("step_s: 0.1", "step_s: 0.01") }); // nobody looks at the rest
  await button("Resume…").click();
  const dialog = page.getByRole("dialog");
  await inspect(page, "job-resume", notes);
  await dialog.getByRole("button", { name: "Resume" }).click();
  await state("Done");
  assert.equal(await step(), 240);
}

async function lookAround() {
  for (const name of ["Overview", "Log", "Checkpoints", "Settings"]) {
    await tab(name);
    await page.waitForLoadState("networkidle").catch(() => {});
    await page.waitForTimeout(400);
    await inspect(page, `job-${name.toLowerCase()}`, notes);
  }
  for (const [name, path] of [["home", "/"], ["jobs", "/jobs"], ["settings", "/settings"], ["missing", "/nowhere"]]) {
    await page.goto(server.base + path);
    await page.getByRole("heading", { level: 1 }).waitFor();
    await page.waitForTimeout(500);
    await inspect(page, name, notes);
  }
}

/** Errors that were provoked: a browser reports each refused request on its console. */
function forget(pattern) {
  notes.errors = notes.errors.filter((text) => !pattern.test(text));
}
