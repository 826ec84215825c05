// Bundles the pages into ../target/web: index.html, watch.html and docs/api.html, and under assets/ what they name as
// /assets/NAME. Beside them under docs/ is the documentation, made of ../docs. The gateway carries that directory in
// its binary. What pages name has no hash: the gateway answers with ETag and no-cache.

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
    dashboard: here("src/dashboard/main.ts"),
    watch: here("src/watch/main.ts"),
    docs: here("src/docs/main.ts"),
    reading: here("src/reading/main.ts"),
    style: here("styles/style.css"),
  },
  outdir: `${out}assets`,
  bundle: true,
  minify: true,
  format: "esm",
  // What is imported when it is needed (hls.js), and what scripts share, are files of their own.
  splitting: true,
  chunkNames: "[name]-[hash]",
  target: ["es2022", "chrome108", "firefox115", "safari16.4"],
  // The element's own stylesheet travels in its script, so that one <script> is all an embedding page needs.
  loader: { ".shadow.css": "text" },
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

/** web/site is TypeScript, with Markdown's reader. */
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

/** What `make` looks at to see whether the documentation is still the one of the files that it was made of. */
async function noteSources(sources) {
  // Folders at the top have the names of phony targets.
  const named = (name) => !/[\s#$:%]/.test(name) && (name.includes("/") || statSync(repository(name)).isFile());
  const names = [...sources].filter(named);
  const stamps = here("../target/stamps/");
  await mkdir(stamps, { recursive: true });
  // A file that is gone has a rule without a recipe, which makes it new.
  await writeFile(`${stamps}web.d`, `target/stamps/web: ${names.join(" ")}\n${names.map((name) => `${name}:\n`).join("")}`);
}
