// Runs the browser tests: first most of them, two files at a time, then those that measure timing, one after the other.
// `npm run test:browser` in web/; run single files with `node --test`.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Those that take longest begin first, so that none is left at the end while nothing else runs. */
const LONGEST = ["swaps", "halves", "recovery", "h264", "docs", "accounts"];
const AT_ONCE = 2;
const MEASURING = ["auto", "hls", "jmuxer", "mse", "webcodecs", "udp", "slow_link", "wall", "audio"];

const folder = fileURLToPath(new URL(".", import.meta.url));
const ending = ".test.mjs";
/** What `node --test` says of a file as a whole. */
const SUMMARY = /^ℹ (?:tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) .*\n/gm;

/** Runs these files, so many at a time, beginning in this order. Returns the names of those that failed. */
async function run(names, atOnce) {
  const waiting = [...names];
  const failed = [];
  const lane = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      if (!(await passes(name))) failed.push(name);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return failed;
}

/** Runs one file, and prints what it says once it has ended. */
async function passes(name) {
  const began = performance.now();
  const options = ["--test", "--test-reporter=spec", `${folder}${name}${ending}`];
  const child = spawn(process.execPath, options, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const [code] = await once(child, "close");
  const seconds = Math.round((performance.now() - began) / 1000);
  console.log(`── ${name}: ${code === 0 ? "passed" : "FAILED"} after ${seconds} s\n${output.replace(SUMMARY, "").trim()}\n`);
  return code === 0;
}

const names = readdirSync(folder)
  .filter((file) => file.endsWith(ending))
  .map((file) => file.slice(0, -ending.length));
const others = names.filter((name) => ![LONGEST, MEASURING].some((group) => group.includes(name)));

const failed = await run([...LONGEST, ...others], AT_ONCE);
failed.push(...(await run(MEASURING, 1)));
if (failed.length > 0) {
  console.log(`failed: ${failed.join(", ")}`);
  process.exitCode = 1;
}
