// What comes after a training: two runs side by side under one address; then two checkpoints tried out, and one kept.
//   node tests/ui/browser/tryout.mjs FOLDER     FOLDER holds the finished runs `output/first`, with two LoRAs, and `output/second`;
//   UI_SHOTS=DIR keeps a picture of every page
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { begin, inspect } from "./harness.mjs";

const { server, notes, open, tell } = await begin({ scripted: false });
const page = await open({ reducedMotion: "reduce" });
page.setDefaultTimeout(15_000);

await tell(async () => {
  await page.goto(server.address);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await server.ask("PUT", "/api/settings", { training_folder: join(server.folder, "output") });
  await sideBySide();
  await tryOut();
}, page);

async function sideBySide() {
  await page.goto(`${server.base}/jobs`);
  for (const name of ["first", "second"]) await page.getByRole("checkbox", { name: `Select ${name}` }).check();
  await page.getByRole("link", { name: "Compare", exact: true }).click();
  await page.getByRole("heading", { name: "Compare runs" }).waitFor();
  const settings = page.getByRole("region", { name: "Settings that differ" }).last();
  const row = settings.getByRole("row", { name: /train\.lr/ });
  await row.waitFor();
  const heads = await settings.locator("thead th").allInnerTexts();
  const rates = { first: "0.003", second: "0.0005" };
  assert.deepEqual((await row.locator("td").allInnerTexts()).slice(0, 2), heads.slice(1, 3).map((name) => rates[name]));
  const prompt = page.getByRole("group", { name: /^a <b>cat/ });
  assert.equal(await prompt.count(), 2);
  assert.equal(await prompt.first().locator("img").count(), 2, "a column for each run");
  await page.getByText(/^Best by held-out images: step 20/).first().waitFor();
  await page.keyboard.press("Home");
  await prompt.first().locator("img[alt*=', step 0: ']").first().waitFor();
  await page.getByText(/^Curves shown/).click();
  await page.getByRole("checkbox", { name: "Validation: gap" }).check();
  await page.getByRole("checkbox", { name: "Log scale" }).check();
  await page.getByRole("figure", { name: "Validation: gap" }).locator("canvas").waitFor();
  const link = page.url();
  await page.goto(`${server.base}/settings`);
  await page.goto(link); // the address holds the whole view
  await page.getByRole("figure", { name: "Validation: gap" }).locator("canvas").waitFor();
  assert.equal(await page.getByRole("checkbox", { name: "Log scale" }).isChecked(), true);
  assert.equal(await page.getByRole("slider", { name: "Step" }).getAttribute("aria-valuetext"), "step 0");
  await inspect(page, "compare", notes);
  await prompt.first().getByRole("button").first().click();
  await page.getByRole("dialog", { name: /^Sample: a <b>cat/ }).getByRole("slider", { name: "Wipe position" }).waitFor();
  await page.keyboard.press("Escape");
}

/** A real drawing by the tiny model. */
async function tryOut() {
  const { jobs } = await server.ask("GET", "/api/jobs");
  const first = jobs.find(({ name }) => name === "first").id;
  await page.goto(`${server.base}/jobs/${first}/checkpoints`);
  await page.getByText("as good as the best").waitFor();
  await page.getByText(/^Held-out images: error -9.5 %/).waitFor();
  await inspect(page, "checkpoints-marked", notes);
  await page.getByRole("link", { name: "Try these out" }).click();
  await page.getByRole("heading", { name: "Try out" }).waitFor();
  const field = (name) => page.getByLabel(name, { exact: true });
  await field("Prompts").fill("a red circle");
  for (const [name, value] of [["Width", "32"], ["Height", "32"], ["Steps", "2"], ["Guidance", "1"], ["Strengths", "1"]]) await field(name).fill(value);
  await field("Seeds").fill("1, two");
  await page.getByText("“two” is not a whole number.").waitFor();
  const count = page.locator(".tryout-count");
  await field("Seeds").fill("1 2");
  await page.getByText("Ready to start").waitFor({ timeout: 120_000 });
  assert.match(await count.innerText(), /6 pictures\s+1 prompt × 2 seeds × \(2 LoRAs × 1 strength \+ 1 without\)/);
  await field("Name").fill("first");
  await page.getByText(/already in use/).waitFor();
  await inspect(page, "tryout", notes);
  await field("Name").fill("best_of_two");
  await page.getByRole("button", { name: "Draw", exact: true }).click();
  await page.getByRole("heading", { name: "best_of_two" }).waitFor();
  const grid = page.getByRole("region", { name: "Pictures by prompt and LoRA" });
  await grid.waitFor({ timeout: 120_000 });
  await page.getByText(/^6 pictures$/).waitFor({ timeout: 120_000 });
  const cells = grid.getByRole("button", { name: /^(without LoRA|first\S* × 1), seed/ });
  assert.equal(await cells.count(), 6);
  const heads = (await grid.locator("thead strong").allInnerTexts()).sort();
  assert.deepEqual(heads, ["first", "first_000000020", "without LoRA"]);
  await cells.last().click();
  await page.getByRole("slider", { name: "Wipe position" }).waitFor();
  await page.keyboard.press("ArrowUp");
  await page.getByText("seed 1", { exact: true }).last().waitFor();
  await page.keyboard.press("Escape");
  await grid.getByRole("button", { name: "Keep this one… first × 1", exact: true }).click();
  await field("Name").fill("../mine");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  await page.getByText(/cannot be a file name/).waitFor();
  notes.errors = notes.errors.filter((text) => !text.includes("422")); // the name that was refused
  await field("Name").fill("mine");
  await page.getByRole("button", { name: "Keep", exact: true }).click();
  const kept = join(server.folder, "output", "kept", "mine.safetensors");
  await page.getByText(kept).waitFor();
  assert.ok(existsSync(kept));
  await page.getByRole("button", { name: "Done" }).click();
  await inspect(page, "tryout-grid", notes);
}
