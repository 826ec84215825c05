// WebTransport from a page of the gateway: a browser accepts its certificate by the hash that the gateway tells, over
// plain HTTP on loopback and over TLS, and gets groups as streams and notes as datagrams.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { MovedClock } from "./moved_clock.mjs";
import { recordContinuity } from "./moving.mjs";
import { gatewayAndBrowser } from "./setup.mjs";
import { frameNumberReaches, playing, recordMediaSockets, setHidden } from "./support.mjs";

const component = fileURLToPath(new URL("../../target/plugins/lanes.wasm", import.meta.url));
const CONFIG = `[streams.demo]\nsource = "test-pattern"\n[transports.lanes]\nplugin = ${JSON.stringify(component)}\n`;

/** Runs in the page: opens a session, reads two groups and a datagram, and asks something; `hashes` replaces the real ones. */
async function openSession({ hashes }) {
  const response = await fetch("/live/demo?can=lanes", { headers: { accept: "application/json" } });
  const { webtransport, base } = await response.json();
  const serverCertificateHashes = (hashes ?? webtransport.hashes).map((hash) => ({
    algorithm: "sha-256",
    value: Uint8Array.from(atob(hash), (c) => c.charCodeAt(0)),
  }));
  const url = new URL(`${base}/lanes`, location.href);
  url.protocol = "https:";
  url.port = webtransport.port ?? location.port;
  const began = performance.now();
  const session = new WebTransport(url, { serverCertificateHashes });
  session.closed.catch(() => {});
  await session.ready;
  const milliseconds = performance.now() - began;
  const streams = session.incomingUnidirectionalStreams.getReader();
  const groups = [];
  while (groups.length < 2) {
    const { value } = await streams.read();
    groups.push(new Uint8Array(await new Response(value).arrayBuffer()));
  }
  const { value: note } = await session.datagrams.readable.getReader().read();
  const question = await session.createBidirectionalStream();
  const writer = question.writable.getWriter();
  await writer.write(new TextEncoder().encode("question"));
  await writer.close();
  const answer = await new Response(question.readable).text();
  globalThis.session = session;
  return {
    milliseconds,
    answer,
    note: new TextDecoder().decode(note),
    groups: groups.map((group) => [group.length, ...group.subarray(0, 9)]),
  };
}

for (const [name, tls] of [["plain HTTP", ""], ["TLS", '[server]\ntls = "self-signed"\n']]) {
  describe(`WebTransport beside ${name}`, { timeout: 120_000 }, () => {
    const { gateway, openPage } = gatewayAndBrowser({ config: tls + CONFIG });

    test("a page plays by the hash of the certificate", async (t) => {
      const { page, problems, close } = await openPage({ ignoreHTTPSErrors: true });
      await page.goto(gateway.url);
      const got = await page.evaluate(openSession, {});
      t.diagnostic(`session after ${got.milliseconds.toFixed()} ms`);
      const header = [..."head"].map((c) => c.charCodeAt(0));
      for (const [length, ...begin] of got.groups) {
        assert.ok(length > 1000, `${length} bytes`);
        assert.deepEqual(begin.slice(0, 4), header);
        assert.deepEqual(begin.slice(4, 7), [0, 0, 0], "a start code");
      }
      assert.match(got.note, /^note \d+ \d+ $/);
      assert.equal(got.answer, "question");
      assert.deepEqual(problems, []);
      await close();
    });

    test("a page with the hash of another certificate gets no session", async () => {
      const { page, close } = await openPage({ ignoreHTTPSErrors: true });
      await page.goto(gateway.url);
      const other = btoa(String.fromCharCode(...new Uint8Array(32)));
      await assert.rejects(page.evaluate(openSession, { hashes: [other] }), /WebTransportError/);
      await close();
    });

    test("a page learns that the session has ended", async () => {
      const { page, close } = await openPage({ ignoreHTTPSErrors: true });
      await page.goto(gateway.url);
      await page.evaluate(openSession, {});
      const ended = page.evaluate(() => session.closed.then((info) => info, (error) => error.source));
      await gateway.stop();
      assert.equal(await ended, "session");
      await close();
    });
  });
}

describe("the gateway's own certificate", { timeout: 120_000 }, () => {
  // The gateway starts 11 days and an hour ago, so its certificate was in use until an hour ago.
  const clock = new MovedClock(-(11 * 24 + 1) * 3600);
  after(() => clock.close());
  // With a source that is running: the player looks into the WebSocket if nothing comes for a second.
  const config = '[streams.demo]\nsource = "test-pattern"\nalways-on = true\n';
  const { gateway, openPage } = gatewayAndBrowser({ config, env: clock.env });
  const hashes = async () => {
    const response = await fetch(`${gateway.url}live/demo?can=webcodecs`, { headers: { accept: "application/json" } });
    return (await response.json()).webtransport.hashes;
  };

  test("is replaced under a playing page, which knows the next one already", async () => {
    const { page, problems, close } = await openPage();
    const sockets = recordMediaSockets(page);
    await page.goto(`${gateway.url}watch/demo?transport=webcodecs`);
    const { number } = await playing(page, "webcodecs");
    await recordContinuity(page);
    const before = await hashes();
    clock.move(0);
    const now = await hashes();
    assert.deepEqual([now[0], before.includes(now[1])], [before[1], false]);
    const { stats } = await frameNumberReaches(page, number + 60);
    const { longest, steps } = await page.evaluate(() => window.continuity);
    assert.deepEqual([steps, stats.reconnects], [[], 0]);
    assert.ok(longest < 500, `${longest} ms without a new frame`);
    // It connects again, with the hashes that it got before.
    await page.route("**/live/demo*", (route) => route.abort());
    await setHidden(page, true);
    await setHidden(page, false);
    const again = await playing(page, "webcodecs");
    await frameNumberReaches(page, again.number + 10);
    const other = await openPage();
    const others = recordMediaSockets(other.page);
    await other.page.goto(`${gateway.url}watch/demo?transport=webcodecs`);
    await playing(other.page, "webcodecs");
    assert.deepEqual([sockets, others, problems, other.problems], [[], [], [], []]);
    await other.close();
    await close();
  });
});
