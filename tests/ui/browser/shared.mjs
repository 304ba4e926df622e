// A browser for many stories: prints its address, and ends with its standard input.
//   node tests/ui/browser/shared.mjs     stories use it when UI_BROWSER holds the address
import { CHROMIUM, chromium } from "./harness.mjs";

const server = await chromium.launchServer(CHROMIUM);
console.log(server.wsEndpoint());
process.stdin.resume().on("end", () => server.close());
