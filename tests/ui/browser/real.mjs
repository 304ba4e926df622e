// A real training of the tiny model by keyboard alone: form, check, start, live steps, samples, save, stop, resume, done.
//   node tests/ui/browser/real.mjs FOLDER     UI_SHOTS=DIR keeps pictures of what was trained
import assert from "node:assert/strict";
import { join } from "node:path";
import { begin, inspect, REPOSITORY, until } from "./harness.mjs";

const { folder, server, notes, open, tell } = await begin({ scripted: false });
const page = await open({ reducedMotion: "reduce", viewport: { width: 1280, height: 800 } });
page.setDefaultTimeout(120_000); // loading the model's library takes a while on a busy machine
const { keyboard } = page;
const button = (name) => page.getByRole("button", { name, exact: typeof name === "string" });
const state = (word) => page.locator(".page-title .state", { hasText: word }).waitFor();
const step = async () => Number((await page.locator(".live-figures dd").first().innerText()).split("/")[0].replace(/\D/g, ""));
const shot = async (name) => process.env.UI_SHOTS && page.screenshot({ path: join(process.env.UI_SHOTS, `${name}.png`) });

const STEPS = 60;

await tell(async () => {
  await page.goto(server.address);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await describeTheJob();
  await checkAndStart();
  await watchItTrain();
  await saveAndStop();
  await resume();
}, page);

/** Press Tab until the focus is there, as a person does who has no mouse. */
async function tabTo(target, key = "Tab") {
  await target.waitFor();
  for (let num = 0; num < 150; num += 1) {
    if (await target.evaluate((element) => element === document.activeElement)) return;
    await keyboard.press(key);
  }
  throw new Error(`the focus does not reach ${target}`);
}

async function press(name) {
  await tabTo(button(name));
  await keyboard.press("Enter");
}

async function type(label, text) {
  await tabTo(page.getByLabel(label, { exact: true }).first());
  await keyboard.press("Control+a");
  await keyboard.type(text);
}

async function describeTheJob() {
  await keyboard.press("n");
  await page.getByRole("heading", { name: "New job" }).waitFor();
  const arch = page.getByLabel("Model", { exact: true });
  await tabTo(arch);
  await keyboard.type("FLUX.2 tiny");
  await until(async () => (await arch.inputValue()) === "flux2_tiny", () => "the tiny model cannot be chosen by its name");
  await type("Name", "zorbo");
  await type("Trigger word", "zorbo");
  await type("Image folder", join(REPOSITORY, "assets", "demo_dataset"));
  await type("Steps", String(STEPS));
  await type("Learning rate", "2e-3");
  await type("Save every", "30");
  await type("Sample every", "20");
  for (const prompt of ["a zorbo at the top right on a blue background", "a red circle in the center on a blue background"]) {
    await press("Add prompt");
    await tabTo(page.getByRole("textbox", { name: /^Prompt/ }).last(), "Shift+Tab");
    await keyboard.type(prompt);
  }
  await tabTo(page.getByRole("tab", { name: "Simple", exact: true }), "Shift+Tab");
  await keyboard.press("ArrowRight");
  for (const [key, value] of [["Output folder", join(folder, "output")], ["Denoising steps", "4"]]) {
    await tabTo(page.getByLabel("Search settings"), key === "Output folder" ? "Tab" : "Shift+Tab");
    await keyboard.press("Control+a");
    await keyboard.type(key.toLowerCase());
    await type(key, value);
  }
}

async function checkAndStart() {
  await page.locator(".verdict", { hasText: "Ready" }).waitFor();
  await page.getByLabel("Check").getByText("12 images").first().waitFor();
  await tabTo(page.getByRole("tab", { name: "All settings", exact: true }), "Shift+Tab");
  await keyboard.press("ArrowLeft");
  await page.evaluate(() => scrollTo(0, 0));
  await shot("real-new");
  await keyboard.press("Control+Enter");
  await page.getByRole("heading", { name: "zorbo" }).waitFor();
}

async function watchItTrain() {
  await state("Training");
  const first = await step();
  await until(async () => (await step()) > first, () => "no live step");
  await keyboard.press("2");
  await page.locator(".prompt-grid img").nth(1).waitFor();
  await page.locator(".step-slider output", { hasText: /^[24]0$/ }).waitFor();
  const width = await page.locator(".prompt-grid img").first().evaluate((image) => image.decode().then(() => image.naturalWidth));
  assert.ok(width > 0, "a sample that the model has drawn");
}

async function saveAndStop() {
  await press("Save now");
  await keyboard.press("4");
  await page.locator(".checkpoints li").first().waitFor();
  await press(/^Stop/);
  await state("Interrupted");
  const stopped = await step();
  assert.ok(stopped < STEPS, "it was stopped on its way");
  await page.locator(".live-reason", { hasText: `Resumes from step ${stopped}` }).waitFor();
  await inspect(page, "real-stopped", notes);
}

async function resume() {
  await press("Resume…");
  await press("Resume");
  await state("Done");
  assert.equal(await step(), STEPS);
  await keyboard.press("1");
  await page.locator(".chart canvas").first().waitFor();
  await page.waitForTimeout(300);
  await shot("real-job");
}
