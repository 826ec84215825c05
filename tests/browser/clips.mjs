// Video files for the browser tests, generated once by ffmpeg and cached in target/scratch.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Path of a video file generated with these ffmpeg arguments; the extension of `name` selects the format. */
export function clip(name, options) {
  const directory = fileURLToPath(new URL("../../target/scratch/browser", import.meta.url));
  mkdirSync(directory, { recursive: true });
  const hash = createHash("sha256").update(options.join(" ")).digest("hex").slice(0, 12);
  const path = `${directory}/${hash}-${name}`;
  if (!existsSync(path)) {
    const temporary = `${directory}/${process.pid}-${name}`;
    execFileSync("ffmpeg", ["-nostdin", "-v", "error", "-y", ...options, temporary]);
    renameSync(temporary, path);
  }
  return path;
}
