// A page in Chromium that stays open until stdin is closed; says "open" when it shows a heading.
//   node benchmarks/ui_open.mjs ADDRESS PATH     ADDRESS as the server prints it
import { openBrowser } from "../tests/ui/browser/harness.mjs";

const [address, path] = process.argv.slice(2);
const { browser, open } = await openBrowser();
const page = await open();
page.setDefaultTimeout(60_000);
await page.goto(address);
await page.getByRole("heading", { name: "Home" }).waitFor();
await page.goto(new URL(path, address).href);
await page.locator(".live-figures").waitFor();
console.log("open");
await new Promise((resolve) => process.stdin.on("end", resolve).resume());
await browser.close();
