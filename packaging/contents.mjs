// Prints what the release binary of packaging/build consists of, as a table; `--write FILE` puts it between the markers
// of that file instead. Needs nm and size, and the symbols of target/release/sluicegate.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const binary = join(root, "target/release/sluicegate");
const folder = join(root, "target/package");
const installed = join(folder, "tree/debian/sluicegate/usr/lib/sluicegate");
const COMPONENTS = ["auto", "hls", "mjpeg", "mse", "nal", "webcodecs"];

/** Whose code a crate is counted as; the first that matches. */
const PARTS = [
  ["code: Sluicegate itself", /^sluicegate/],
  [
    "code: checking, compiling and running components",
    /^(wasm|wit_|wat$|cranelift|pulley|regalloc|gimli$|object$|addr2line$)/,
  ],
  [
    "code: HTTP, QUIC, TLS",
    /^(tokio|hyper|h2$|http|rustls|quinn|wtransport|tungstenite|ring$|webpki|rcgen|yasna|x509|der_|asn1|httlib)/,
  ],
  ["code: config, JSON, command line, logs", /^(toml|serde|schemars|clap|roff$|regex|aho_corasick|tracing|anstyle)/],
  ["code: Rust's standard library", /^(core|alloc|std)$/],
  ["code: C and assembly (libjpeg-turbo, ring)", /^$/],
];
const OTHER = "code: other crates";
/** What code of a crate is made of whose types it names. */
const GENERIC = new Set(["core", "alloc", "std", "hashbrown", "indexmap", "smallvec"]);

const section = sections();
const sectionsOf = (...names) => sum(names.map((name) => section.get(name) ?? 0));
const components = COMPONENTS.map((name) => join(root, `target/plugins/${name}.wasm`));
const rows = new Map([
  ["web pages with the documentation", sizeOf(join(root, "target/web"))],
  ["built-in components, not compiled", sum(components.map(sizeOf))],
]);
rows.set("other constants", sectionsOf(".rodata") - sum(rows.values()));
rows.set("tables for panics (unwinding)", sectionsOf(".eh_frame", ".eh_frame_hdr", ".gcc_except_table"));
rows.set("tables for the loader", sectionsOf(".rela.dyn", ".data.rel.ro", ".got"));
const code = codeByPart();
code.set("code: padding and what has no symbol", sectionsOf(".text") - sum(code.values()));
for (const [part, bytes] of code) rows.set(part, bytes);

const whole = sizeOf(join(installed, "sluicegate"));
const table = [
  "| in `sluicegate` | MB | share |",
  "|---|---:|---:|",
  ...[...rows].sort(([, a], [, b]) => b - a).map(([part, bytes]) => `| ${part} | ${mb(bytes)} | ${percent(bytes)} |`),
  `| the whole file, stripped | ${mb(whole)} | 100 % |`,
  "",
  `\`sluicegate-devices\` is ${mb(sizeOf(join(installed, "sluicegate-devices")))} MB.`,
  `The Debian package of both, compressed, is ${mb(packageSize())} MB.`,
  `Debug symbols, which are in a package of their own, make \`target/release/sluicegate\` ${mb(sizeOf(binary))} MB.`,
].join("\n");

const file = process.argv[2] === "--write" ? process.argv[3] : undefined;
if (file === undefined) {
  console.log(table);
} else {
  const text = readFileSync(file, "utf8");
  const between = /(<!-- package:contents -->\n)[^]*?(<!-- \/package:contents -->)/;
  if (!between.test(text)) throw new Error(`${file} has no markers package:contents`);
  writeFileSync(file, text.replace(between, (_, begin, end) => `${begin}${table}\n${end}`));
}

/** Sizes of the binary's sections by name. */
function sections() {
  const lines = run("size", "--format=sysv", binary).split("\n");
  return new Map(lines.map((line) => line.trim().split(/\s+/)).map(([name, size]) => [name, Number(size)]));
}

function codeByPart() {
  const parts = new Map();
  // Functions with the same code are one.
  const places = new Set();
  for (const line of run("nm", "--print-size", "--radix=d", "--demangle", binary).split("\n")) {
    const [, place, size, name] = /^(\d+) (\d+) [tTwW] (.*)$/.exec(line) ?? [];
    if (name === undefined || places.has(place)) continue;
    places.add(place);
    const part = partOf(name);
    parts.set(part, (parts.get(part) ?? 0) + Number(size));
  }
  return parts;
}

/** The part of a function: that of the first crate in its name which is not only a container of others' types. */
function partOf(name) {
  const crates = [...name.matchAll(/(?<![\w:])([a-z_]\w*)::/g)].map(([, crate]) => crate);
  const crate = crates.find((crate) => !GENERIC.has(crate)) ?? crates[0] ?? (/[<&[]/.test(name) ? "core" : "");
  return PARTS.find(([, crates]) => crates.test(crate))?.[0] ?? OTHER;
}

function packageSize() {
  const name = readdirSync(folder).find((name) => /^sluicegate_.*\.deb$/.test(name));
  return sizeOf(join(folder, name));
}

/** Of a file, or of all files in a folder. */
function sizeOf(path) {
  const found = statSync(path);
  return found.isDirectory() ? sum(readdirSync(path).map((name) => sizeOf(join(path, name)))) : found.size;
}

function run(program, ...parameters) {
  return execFileSync(program, parameters, { encoding: "utf8", maxBuffer: 1 << 28 });
}

function sum(numbers) {
  return [...numbers].reduce((all, one) => all + one, 0);
}

function mb(bytes) {
  return (bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1);
}

function percent(bytes) {
  return `${((100 * bytes) / whole).toFixed(0)} %`;
}
