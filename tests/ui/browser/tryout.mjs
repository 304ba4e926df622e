// What comes after a training: two runs side by side under one address.
//   node tests/ui/browser/tryout.mjs FOLDER     FOLDER holds the finished runs `output/first` and `output/second`;
//   UI_SHOTS=DIR keeps a picture of every page
import assert from "node:assert/strict";
import { begin, inspect } from "./harness.mjs";

const { server, notes, open, tell } = await begin();
const page = await open({ reducedMotion: "reduce" });
page.setDefaultTimeout(15_000);

await tell(async () => {
  await page.goto(server.address);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  await sideBySide();
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
  await inspect(page, "compare-viewer", notes);
  await page.keyboard.press("Escape");
}
