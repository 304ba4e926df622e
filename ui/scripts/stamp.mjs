// Writes dist/stamp.json: the hash of everything that the build is made from. `run.py ui` compares it with the sources.
// The hash: sha256 over each file, sorted by its path with "/": path, a zero byte, contents, a zero byte.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";

const ui = join(dirname(fileURLToPath(import.meta.url)), "..");

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? filesBelow(join(folder, entry.name)) : [join(folder, entry.name)],
  );
}

const sources = [
  ...filesBelow(join(ui, "src")),
  ...filesBelow(join(ui, "public")),
  join(ui, "index.html"),
  join(ui, "package-lock.json"),
].map((path) => relative(ui, path).split(sep).join("/"));

const hash = createHash("sha256");
for (const path of sources.sort()) {
  hash.update(path).update("\0").update(readFileSync(join(ui, path))).update("\0");
}
writeFileSync(join(ui, "dist", "stamp.json"), JSON.stringify({ sources: hash.digest("hex") }) + "\n");
