// Bundles the pages into ../target/web: index.html, watch.html and docs.html, and under assets/ what they name as /assets/NAME.
// The gateway carries that directory inside its binary. What pages name has no hash: the gateway answers with ETag and no-cache.

import { build } from "esbuild";
import { cp, mkdir, rm } from "node:fs/promises";
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
