// Builds the transport of this project: a module that exports `transport` becomes a component, with the name and the
// version of package.json. Run by `npm run build` as `node sluicegate/build.mjs transport.js NAME.wasm`.

import { componentize } from "componentize-qjs";
import { readFileSync, writeFileSync } from "node:fs";

const [entry, output] = process.argv.slice(2);
const { name, version } = JSON.parse(readFileSync("package.json", "utf8"));

/** A custom section (WebAssembly Core Specification, section 5.5.3) whose content is a text. */
function section(name, text) {
  const size = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...size(value >> 7)]);
  const [key, content] = [Buffer.from(name), Buffer.from(text)];
  const body = Buffer.concat([Buffer.from(size(key.length)), key, content]);
  return Buffer.concat([Buffer.from([0, ...size(body.length)]), body]);
}

// What is wrong with the export would end the component without a message later.
const jsSource = `
  import { transport } from "./${entry}";
  if (typeof transport?.open !== "function") {
    throw new TypeError("${entry}: write \`export const transport = component(CLASS)\`");
  }
  export { transport };
`;

try {
  const { component } = await componentize({
    jsSource,
    // The folder from which modules are imported is that of this file, which must exist.
    jsPath: "package.json",
    witPath: "sluicegate/gateway.wit",
    world: "transport-plugin",
    stubWasi: true,
    sync: true,
    optSize: true,
  });
  // The gateway reads these (host/plugin/src/metadata.rs).
  const sections = [section("sluicegate:name", name), section("version", version)];
  const wasm = Buffer.concat([component, ...sections]);
  writeFileSync(output, wasm);
  console.log(`${output}: ${name}@${version}, ${wasm.length} bytes`);
} catch (error) {
  console.error(`${entry}: ${error.message.replace(/^[: ]+/, "").trim()}`);
  process.exitCode = 1;
}
