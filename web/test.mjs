// Runs the unit tests: bundles each test/*.test.ts into a temporary directory and passes them to node:test.

import { build } from "esbuild";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const tests = fileURLToPath(new URL("test/", import.meta.url));
const names = (await readdir(tests)).filter((name) => name.endsWith(".test.ts"));
const out = await mkdtemp(join(tmpdir(), "sluicegate-web-"));
try {
  await build({
    entryPoints: names.map((name) => join(tests, name)),
    outdir: out,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node18",
    sourcemap: "inline",
    logLevel: "warning",
  });
  const files = names.map((name) => join(out, name.replace(/\.ts$/, ".mjs")));
  const cwd = fileURLToPath(new URL(".", import.meta.url));
  const child = spawn(process.execPath, ["--enable-source-maps", "--test", ...files], { stdio: "inherit", cwd });
  const [code] = await once(child, "exit");
  process.exitCode = code ?? 1;
} finally {
  await rm(out, { recursive: true, force: true });
}
