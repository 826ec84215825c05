// Prints which other packages' code is in the binaries, in the built-in components and in the web pages, with their
// licenses, whose texts come from the packages themselves. Everything that is read, `make build` has fetched.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const BINARIES = ["sluicegate", "sluicegate-devices"];
const COMPONENTS = ["auto", "hls", "mjpeg", "mse", "nal", "webcodecs"].map((name) => `sluicegate-${name}`);
const LICENSE_FILE = /^(licen[cs]e|copying|notice|copyright|unlicense|readme\.ijg)/i;

const packages = [
  ...crates(BINARIES, []),
  ...crates(COMPONENTS, ["--target", "wasm32-unknown-unknown"]),
  ...pagePackages(),
];
const texts = new Map();
const seen = new Set();
const list = [];
for (const { name, version, license, folder, repository } of packages.sort((a, b) => (a.name < b.name ? -1 : 1))) {
  if (seen.has(`${name} ${version}`)) continue;
  seen.add(`${name} ${version}`);
  const numbers = licenseTexts(folder).map(numberOf);
  const where = numbers.length > 0 ? `texts ${numbers.join(", ")}` : "no text in its package";
  list.push(`${name} ${version}: ${license ?? "see its text"}; ${where}\n    ${repository ?? ""}`.trimEnd());
}
console.log("Other packages whose code is in Sluicegate, with their licenses and the numbers of the texts below.\n");
console.log(list.join("\n"));
for (const { number, text } of texts.values()) console.log(`\n${"=".repeat(30)} Text ${number}\n\n${text.trim()}`);

/** The crates that are linked into these ones, without those that only run while they are built. */
function crates(names, options) {
  const cargo = (...rest) => execFileSync("cargo", rest, { cwd: root, encoding: "utf8", maxBuffer: 1 << 28 });
  const selected = names.flatMap((name) => ["-p", name]);
  const shape = ["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}"];
  const tree = cargo("tree", "--locked", "--offline", ...selected, ...options, ...shape);
  const linked = new Set(tree.split("\n").map((line) => line.split(" ").slice(0, 2).join(" ")));
  const known = JSON.parse(cargo("metadata", "--locked", "--offline", "--format-version", "1")).packages;
  return known
    .filter((crate) => crate.source !== null && linked.has(`${crate.name} v${crate.version}`))
    .map((crate) => ({ ...crate, folder: dirname(crate.manifest_path) }));
}

/** The packages that the pages' scripts import; the others in web/package.json are tools. */
function pagePackages() {
  const sources = readdirSync(join(root, "web/src"), { recursive: true }).filter((name) => name.endsWith(".ts"));
  const names = new Set();
  for (const source of sources) {
    const text = readFileSync(join(root, "web/src", source), "utf8");
    for (const [, name] of text.matchAll(/(?:from|import\()\s*"((?:@[^/"]+\/)?[^./"][^/"]*)/g)) names.add(name);
  }
  return [...names].map((name) => {
    const folder = join(root, "web/node_modules", name);
    const described = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    return { ...described, folder, repository: described.homepage };
  });
}

/** License texts in a package's folder and, for C libraries that it brings along, in the folders of that. */
function licenseTexts(folder) {
  const entries = readdirSync(folder, { withFileTypes: true });
  const inside = entries.filter((entry) => entry.isDirectory()).map((entry) => join(folder, entry.name));
  const files = [folder, ...inside].flatMap((place) =>
    readdirSync(place, { withFileTypes: true })
      .filter((entry) => entry.isFile() && LICENSE_FILE.test(entry.name))
      .map((entry) => join(place, entry.name)),
  );
  return files.map((file) => readFileSync(file, "utf8"));
}

/** The same words have the same number. */
function numberOf(text) {
  const words = text.toLowerCase().split(/\W+/).join(" ");
  if (!texts.has(words)) texts.set(words, { number: texts.size + 1, text });
  return texts.get(words).number;
}
