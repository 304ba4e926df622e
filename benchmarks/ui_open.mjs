// A page in Chromium that stays open until stdin is closed; says "open" when it shows a heading.
//   node benchmarks/ui_open.mjs ADDRESS PATH [hidden]     ADDRESS as the server prints it
// Each line on stdin is answered with the requests that the page has sent and the bytes that it has got.
import { createInterface } from "node:readline";
import { openBrowser } from "../tests/ui/browser/harness.mjs";

const [address, path, how] = process.argv.slice(2);
const { browser, open } = await openBrowser();
const page = await open();
page.setDefaultTimeout(60_000);
const counts = { requests: 0, bytes: 0 };
const network = await page.context().newCDPSession(page);
network.on("Network.requestWillBeSent", () => (counts.requests += 1));
network.on("Network.dataReceived", ({ dataLength }) => (counts.bytes += dataLength));
await network.send("Network.enable");
await page.goto(address);
await page.getByRole("heading", { name: "Home" }).waitFor();
await page.goto(new URL(path, address).href);
await page.locator(".live-figures").waitFor();
if (how === "hidden") await page.evaluate(hide);
console.log("open");
for await (const line of createInterface(process.stdin)) if (line) console.log(JSON.stringify(counts));
await browser.close();

/** A browser without windows hides no tab: the page is told that it is hidden. */
function hide() {
  Object.defineProperty(document, "visibilityState", { get: () => "hidden" });
  Object.defineProperty(document, "hidden", { get: () => true });
  document.dispatchEvent(new Event("visibilitychange"));
}
