// The report of a run, opened from its folder without a server.
//   node tests/ui/browser/report.mjs FOLDER     FOLDER holds `report.html`; UI_SHOTS=DIR keeps a picture of it
import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { inspect, openBrowser, settle } from "./harness.mjs";

const { browser, notes, open } = await openBrowser();
try {
  const page = await open();
  page.setDefaultTimeout(10_000);
  await page.goto(pathToFileURL(join(process.argv[2], "report.html")).href);
  const picture = page.locator(".prompts figure").first().locator("img:visible");
  assert.match(await picture.getAttribute("alt"), /^Step 40:/);
  await page.getByRole("slider").focus();
  await page.keyboard.press("Home");
  assert.match(await picture.getAttribute("alt"), /^Step 0:/);
  assert.equal(await page.getByRole("slider").getAttribute("aria-valuetext"), "step 0");
  await page.getByText("All steps side by side").click();
  await page.locator(".matrix td img").first().waitFor();
  assert.equal(await page.locator(".matrix td img").count(), 6);

  const readout = async (title) => {
    const chart = page.locator(".chart", { hasText: title }).first();
    await chart.locator("svg").hover({ position: { x: 300, y: 60 } });
    return chart.locator(".readout").textContent();
  };
  assert.match(await readout("Change of the error"), /^step 20: held-out images -18\.13, training images -18\.13$/);
  assert.match(await readout("Loss"), /^step \d+: 0\.\d+/);
  await page.getByText("Job file", { exact: true }).click();
  await inspect(page, "report", notes);
  settle(notes);
} finally {
  await browser.close();
}
