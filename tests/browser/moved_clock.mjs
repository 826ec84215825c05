// The wall clock of a gateway, apart from that of the machine.

import { execFileSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** The clock of one process, which is `offset` seconds ahead of the machine's. */
export class MovedClock {
  #file;
  /** Variables of the process's environment. */
  env;

  constructor(offset) {
    const directory = fileURLToPath(new URL("../../target/scratch/browser", import.meta.url));
    mkdirSync(directory, { recursive: true });
    const library = `${directory}/clock-${process.pid}.so`;
    execFileSync("cc", ["-shared", "-fPIC", "-o", library, fileURLToPath(new URL("clock.c", import.meta.url))]);
    const path = `${directory}/clock-${process.pid}.offset`;
    this.#file = openSync(path, "w+");
    this.env = { LD_PRELOAD: library, CLOCK_OFFSET: path };
    this.move(offset);
  }

  move(offset) {
    writeSync(this.#file, new BigInt64Array([BigInt(offset)]), 0, 8, 0);
  }

  close() {
    closeSync(this.#file);
  }
}
