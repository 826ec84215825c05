// The script of the sandboxed frame in which the half of a transport runs. The gateway puts it into the frame's document
// (`host/gateway/src/api/halves.rs`). The page sends one message with a task and a port; the half reports over that port.
// It shares this realm with the half, so nothing here protects the page: `Reports` checks every message.

import { Context, obstacle, start } from "./context";
import type { FrameOrder, FrameTask } from "./contract";

// Other frames in the page can send messages here, too.
const receiveTask = ({ data, ports, source }: MessageEvent<FrameTask>): void => {
  const [port] = ports;
  if (source !== parent || port === undefined) return;
  removeEventListener("message", receiveTask);
  void run(data, port);
};
addEventListener("message", receiveTask);

async function run({ task, module, url, carriers, muted }: FrameTask, port: MessagePort): Promise<void> {
  const post = (message: string): void => port.postMessage(message);
  if (task === "can-play") {
    post(JSON.stringify(["can-play", (await obstacle(module))?.slice(0, 200) ?? null]));
    return;
  }
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("html, body { margin: 0; height: 100%; overflow: hidden; background: transparent; }");
  document.adoptedStyleSheets = [sheet];
  const context = new Context(document.body, { url, carriers, muted }, post);
  const half = start(module, context);
  port.onmessage = ({ data }: MessageEvent<FrameOrder>) => {
    if ("url" in data) {
      context.setUrl(data.url);
    } else {
      context.setMuted(data.muted);
      void half.then((half) => half?.setMuted?.(data.muted));
    }
  };
}
