// Runs the browser tests: those that measure timing one after the other, the others, which mostly wait, two at a
// time. `npm run test:browser` in web/; run single files with `node --test`.

import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";

const MEASURING = new Set(["auto", "hls", "jmuxer", "mse", "audio", "webcodecs", "udp", "slow_link"]);

const folder = fileURLToPath(new URL(".", import.meta.url));
const ending = ".test.mjs";
const names = readdirSync(folder)
  .filter((file) => file.endsWith(ending))
  .map((file) => file.slice(0, -ending.length));

function run(names, atOnce) {
  const files = names.map((name) => `${folder}${name}${ending}`);
  const options = ["--test", `--test-concurrency=${atOnce}`];
  return spawnSync(process.execPath, [...options, ...files], { stdio: "inherit" }).status;
}

const together = run(
  names.filter((name) => !MEASURING.has(name)),
  2,
);
const alone = run([...MEASURING], 1);
process.exitCode = together === 0 && alone === 0 ? 0 : 1;
