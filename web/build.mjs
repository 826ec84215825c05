// Builds the web pages into ../target/web: index.html, watch.html, streams.html and docs/api.html, and under assets/ the files that
// they reference as /assets/NAME. The documentation pages, generated from ../docs, go to docs/. The gateway embeds
// this directory in its binary. File names have no hash: the gateway serves them with ETag and no-cache.

import { build } from "esbuild";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here("../target/web/");

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });

await build({
  entryPoints: {
    player: here("src/player/element.ts"),
    webcodecs_worker: here("src/transport/webcodecs_worker.ts"),
    sound_worklet: here("src/transport/sound_worklet.ts"),
    dashboard: here("src/dashboard/main.ts"),
    watch: here("src/watch/main.ts"),
    streams: here("src/streams/main.ts"),
    docs: here("src/docs/main.ts"),
    reading: here("src/reading/main.ts"),
    style: here("styles/style.css"),
  },
  outdir: `${out}assets`,
  bundle: true,
  minify: true,
  format: "esm",
  // Dynamically imported modules (hls.js) and shared code become separate files.
  splitting: true,
  chunkNames: "[name]-[hash]",
  target: ["es2022", "chrome108", "firefox115", "safari16.4"],
  // The element's stylesheet is part of its script, so that an embedding page needs only one <script>.
  loader: { ".shadow.css": "text" },
  logLevel: "warning",
});

// The gateway puts this one into the document of a frame, so it must be in one piece.
await build({
  entryPoints: { frame: here("src/half/frame.ts") },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022", "chrome108", "firefox115", "safari16.4"],
  logLevel: "warning",
});

await cp(here("pages/"), out, { recursive: true });
await cp(here("assets/"), `${out}assets`, { recursive: true });

const repository = (path) => here(`../${path}`);
try {
  const site = (await siteMaker()).makeSite({
    kind(path) {
      const found = statSync(repository(path), { throwIfNoEntry: false });
      return found === undefined ? null : found.isDirectory() ? "folder" : "file";
    },
    read: (path) => readFileSync(repository(path)),
    list: (path) => readdirSync(repository(path)),
  });
  for (const problem of site.problems) console.warn(`documentation: ${problem}`);
  for (const [name, content] of site.files) {
    await mkdir(dirname(out + name), { recursive: true });
    await writeFile(out + name, content);
  }
  await noteSources(site.sources);
} catch (error) {
  console.error(`the documentation cannot be built: ${error.message}`);
  process.exitCode = 1;
}

/** Compiles web/site, which is TypeScript, and imports it. */
async function siteMaker() {
  const { outputFiles } = await build({
    entryPoints: [here("site/site.ts")],
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node18",
    write: false,
    logLevel: "warning",
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString("base64")}`);
}

/** Writes the dependencies that `make` checks to decide whether the documentation is up to date. */
async function noteSources(sources) {
  // Top-level folders have the same names as phony targets.
  const named = (name) => !/[\s#$:%]/.test(name) && (name.includes("/") || statSync(repository(name)).isFile());
  const names = [...sources].filter(named);
  const stamps = here("../target/stamps/");
  await mkdir(stamps, { recursive: true });
  // An empty rule makes a removed file count as changed.
  await writeFile(`${stamps}web.d`, `target/stamps/web: ${names.join(" ")}\n${names.map((name) => `${name}:\n`).join("")}`);
}
