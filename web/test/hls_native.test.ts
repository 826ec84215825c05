// Tests of the native HLS player with a fake element.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { playByBrowser } from "../src/transport/hls_native";
import type { VideoAttachment } from "../src/transport/video";
import { Clock, replace } from "./support";

/** The native player at `http://gateway/live/demo/hls/media.m3u8`, with a fake element. */
function play(t: TestContext) {
  const clock = new Clock(t);
  replace(t, "HTMLMediaElement", { HAVE_METADATA: 1 });
  const events: string[] = [];
  const element = Object.assign(new EventTarget(), { readyState: 0, paused: false, seeking: false, currentTime: 0, seekable: { length: 0 } });
  const attachment = { element, load: (url: string) => events.push(`load ${url}`) } as unknown as VideoAttachment;
  const playback = playByBrowser(new URL("http://gateway/live/demo/hls/media.m3u8"), attachment, {
    bytes: () => undefined,
    bandwidthSample: () => undefined,
    audio: () => undefined,
    fed: (count) => events.push(`fed ${count}`),
    ended: (ending) => {
      events.push(typeof ending === "string" ? ending : ending.kind);
      playback.stop();
    },
  });
  events.length = 0;
  return { clock, element, events, playback };
}

test("a browser that loads nothing within 12 s is reported once", (t) => {
  const { clock, events } = play(t);
  clock.advance(11_000);
  assert.deepEqual(events, []);
  clock.advance(60_000);
  assert.deepEqual([events, clock.running], [["loading"], 0]);
});

test("before autoplay is allowed, nothing has to load", (t) => {
  const { clock, element, events } = play(t);
  element.paused = true;
  clock.advance(60_000);
  assert.deepEqual(events, []);
  element.paused = false;
  clock.advance(11_000);
  element.readyState = 1;
  clock.advance(2000);
  assert.deepEqual(events, ["fed 10", "fed 10"]);
});

test("the end of the stream is reported once and leaves no timers", (t) => {
  const { clock, element, events } = play(t);
  element.dispatchEvent(new Event("ended"));
  element.dispatchEvent(new Event("ended"));
  assert.deepEqual([events, clock.running], [["draining"], 0]);
});
