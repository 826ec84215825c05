// Tests of the MSE transport with fake browser objects.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { openMse } from "../src/transport/mse";
import type { Sink } from "../src/transport/transport";
import type { VideoScreen } from "../src/transport/video";
import { Clock, type FakeSocket, fakeSockets, fragment, initSegment, replace } from "./support";

const VIDEO = 'video/mp4; codecs="avc1.64001f"';

/** A page with a fake element and media sources that open when the test says so. */
function open(t: TestContext) {
  const clock = new Clock(t);
  const sockets = fakeSockets(t);
  const sources: (EventTarget & { buffers: number })[] = [];
  class Source extends EventTarget {
    static isTypeSupported = () => true;
    buffers = 0;
    duration = 0;

    constructor() {
      super();
      sources.push(this);
    }

    addSourceBuffer(): EventTarget {
      this.buffers++;
      return Object.assign(new EventTarget(), { buffered: { length: 0 }, appendBuffer: () => undefined });
    }
  }
  replace(t, "MediaSource", Source);
  replace(t, "navigator", { vendor: "" });
  const urls = new Set<string>();
  t.mock.method(URL, "createObjectURL", () => {
    const url = `blob:${urls.size + sources.length}`;
    urls.add(url);
    return url;
  });
  t.mock.method(URL, "revokeObjectURL", (url: string) => urls.delete(url));
  const element = Object.assign(new EventTarget(), { currentTime: 0, error: null });
  const screen = { attach: () => ({ element, load: () => undefined, detach: () => undefined }) } as unknown as VideoScreen;
  let fed = 0;
  const sink = { bytes: () => undefined, audio: () => undefined, fed: (count: number) => (fed += count) } as unknown as Sink;
  const transport = openMse(new URL("http://gateway/live/demo"), sink, screen);
  const socket = (sockets[0] as FakeSocket).open();
  const send = (message: string | Uint8Array): void => socket.receive(typeof message === "string" ? message : message.slice().buffer);
  return { clock, socket, sources, urls, transport, send, fed: () => fed };
}

test("a media source that never opens counts frames and is released on stop", (t) => {
  const { clock, socket, sources, urls, transport, send, fed } = open(t);
  for (const message of [VIDEO, initSegment("vide"), fragment(1, true), fragment(1, false)]) send(message);
  assert.deepEqual([fed(), urls.size], [2, 1]);
  transport.stop();
  assert.deepEqual([urls.size, socket.closed, clock.running], [0, true, 0]);
  sources[0]?.dispatchEvent(new Event("sourceopen"));
  assert.equal(sources[0]?.buffers, 0);
});
