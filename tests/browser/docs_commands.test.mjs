// Checks the code blocks of the documentation: `sluicegate check` must accept each block marked `toml`, and bash must
// run each block marked `sh` successfully against a gateway. Blocks whose fence has the second word `ignore` are
// skipped, as in ```sh ignore.
//
// The gateway has the stream `demo`. The blocks of one file run in order in one folder, in which examples/, wit/ and
// the built programs are located as at the top of the repository, and `sluicegate` is in PATH.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { binary, Gateway } from "./support.mjs";

const MarkdownIt = createRequire(new URL("../../web/package.json", import.meta.url))("markdown-it");

const TIMEOUT_MS = 20_000;
/** The gateway's address in the documentation. */
const EXAMPLE = /\b(http|ws):\/\/(?:127\.0\.0\.1|localhost):8080\b/g;
/** Added to a block that shows only a part of a config. */
const STREAM = '\n[streams.demo]\nsource = "test-pattern"\n';

const root = fileURLToPath(new URL("../../", import.meta.url));
const files = ["README.md", ...(existsSync(`${root}docs`) ? readdirSync(`${root}docs`, { recursive: true }) : []).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`).sort()];
const blocks = files.flatMap(fences);

describe("code blocks of the documentation", { timeout: 600_000 }, () => {
  const top = mkdtempSync(join(tmpdir(), "sluicegate-docs-"));
  const gateway = new Gateway({ config: `[capture]\ndir = ${JSON.stringify(join(top, "captures"))}\n${STREAM}` });

  before(() => gateway.start());
  after(async () => {
    await gateway.stop();
    rmSync(top, { recursive: true, force: true });
  });

  for (const { file, line, language, text } of blocks) {
    const run = language === "toml" ? check : runShell;
    test(`${file}:${line}: ${language}`, { timeout: 3 * TIMEOUT_MS }, () => run(folderOf(top, file), { file, line, text }, gateway));
  }

  test("there is at least one block of each language", () => {
    for (const language of ["toml", "sh"]) assert.ok(blocks.some((block) => block.language === language), `no block marked ${language}, except ignored ones`);
  });
});

/** The blocks of a file to check, each with the line number of its first line. */
function fences(file) {
  return new MarkdownIt().parse(readFileSync(root + file, "utf8"), {}).flatMap(({ type, info, map, content: text }) => {
    const [language, ...marks] = info.trim().split(/\s+/);
    if (type !== "fence" || !["toml", "sh"].includes(language) || marks.includes("ignore")) return [];
    return [{ file, line: map[0] + 2, language, text }];
  });
}

async function check(folder, { file, line, text }) {
  const config = join(folder, `line-${line}.toml`);
  writeFileSync(config, text);
  const { code, output } = await runProgram("sluicegate", ["check", config], folder);
  assert.equal(code, 0, `${file}, the block from line ${line} on, is not a valid config:\n${output}`);
}

async function runShell(folder, { file, line, text }, gateway) {
  const { host } = new URL(gateway.url);
  const script = join(folder, `line-${line}.sh`);
  // One line, so that the first line of the block is the second of the script.
  const trap = `trap 'code=$?; echo "${file}:$((LINENO + ${line} - 2)): ended with $code" >&2' ERR; set -eE`;
  writeFileSync(script, `${trap}\n${text.replace(EXAMPLE, `$1://${host}`)}`);
  const { code, output } = await runProgram("bash", [script], folder);
  assert.equal(code, 0, `${file}, the block from line ${line} on, ended with ${code}:\n${output}`);
}

/** Runs a program until it exits, and then kills whatever it left in the background. */
async function runProgram(program, options, folder) {
  const programs = join(folder, "target/release");
  const child = spawn(program, options, {
    cwd: folder,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      ...process.env,
      PATH: `${programs}:${process.env.PATH}`,
      HOME: folder,
      XDG_STATE_HOME: folder,
      // Cache of compiled components, which the gateway of this test has already filled.
      XDG_CACHE_HOME: process.env.XDG_CACHE_HOME || join(homedir(), ".cache"),
      no_proxy: "127.0.0.1,localhost",
    },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output = (output + text).slice(-4000)));
  let timedOut = false;
  const end = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // No process is left.
    }
  };
  const timer = setTimeout(() => {
    timedOut = true;
    end();
  }, TIMEOUT_MS);
  const closed = once(child, "close");
  const [code, signal] = await once(child, "exit");
  clearTimeout(timer);
  end();
  await closed;
  return { code: timedOut ? `SIGKILL after ${TIMEOUT_MS / 1000} s` : (code ?? signal), output };
}

/** The folder in which the blocks of a file run. */
function folderOf(top, file) {
  const folder = join(top, file.replaceAll("/", "-"));
  if (existsSync(folder)) return folder;
  const programs = join(folder, "target/release");
  mkdirSync(programs, { recursive: true });
  for (const name of ["examples", "wit"]) symlinkSync(root + name, join(folder, name));
  symlinkSync(`${root}target/plugins`, join(folder, "target/plugins"));
  const gateway = realpathSync(binary());
  for (const name of ["sluicegate", "sluicegate-devices"]) symlinkSync(join(dirname(gateway), name), join(programs, name));
  // An HTTP error makes curl fail, so that wrong URLs are found.
  writeFileSync(join(folder, ".curlrc"), "fail\n");
  return folder;
}
