// Tests of WebTransport as a carrier: which browsers use it, and how its streams become frames, with a fake session.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { parseChoice } from "../src/net/choice";
import { doubtOffer, noteBlocked, noteOffer, webTransportEndpoint } from "../src/transport/endpoints";
import { hasReliableWebTransport, openWebTransport, readGroups, sendRecord } from "../src/transport/webtransport";
import { GIVE_UP_MS, OPEN_MS, ROUND_MS } from "../src/transport/udp_silence";
import { catalogue, Clock, coded, elapse, FakeSession, record, replace, settled } from "./support";

/** As recorded in 2026. */
const AGENTS: readonly (readonly [string, boolean])[] = [
  ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36", true],
  ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/148.0.0.0 Safari/537.36", true],
  ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Safari/537.36 Edg/148.0.0.0", true],
  ["Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 Mobile Safari/537.36", true],
  ["Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/96.0.4664.45 Safari/537.36", false],
  ["Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0", true],
  ["Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:152.0) Gecko/20100101 Firefox/152.0", false],
  ["Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", false],
  ["Mozilla/5.0 (Android 15; Mobile; rv:153.0) Gecko/153.0 Firefox/153.0", true],
  ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.3 Safari/605.1.15", false],
  ["Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.4 Safari/605.1.15", false],
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.4 Mobile/15E148 Safari/604.1", false],
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 26_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/148.0.7700.10 Mobile/15E148 Safari/604.1", false],
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 26_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) EdgiOS/148.0.3967.54 Version/26.0 Mobile/15E148 Safari/604.1", false],
  ["Mozilla/5.0 (iPhone; CPU iPhone OS 26_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/153.0 Mobile/15E148 Safari/605.1.15", false],
];

test("browsers whose WebTransport can be relied on", () => {
  for (const [agent, reliable] of AGENTS) assert.equal(hasReliableWebTransport(agent), reliable, agent);
});

const ANSWER = { transport: "webcodecs", base: "/live/demo", session: "/api/sessions/7", webtransport: { port: 4433, hashes: ["AAAA"] } };

/** A browser with WebTransport whose timers the test advances. Returns what is stored in the tab. */
function browser(t: TestContext, agent: string = AGENTS[0]?.[0] ?? "") {
  const clock = new Clock(t);
  const stored = new Map<string, string>();
  replace(t, "navigator", { userAgent: agent });
  replace(t, "WebTransport", class {});
  replace(t, "sessionStorage", { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => stored.set(key, value) });
  replace(t, "Date", class extends Date {
    static override now = (): number => 1000 + clock.now;
  });
  return { clock, stored };
}

const endpoint = (base: string) => webTransportEndpoint(new URL(base), new AbortController().signal);

/** The gateway of `base` answers like this. */
function offered(base: string, answer: object): void {
  noteOffer(new URL(base), parseChoice(answer, new URL(base)) ?? { webTransport: null, ticket: null });
}

test("an offer becomes an address", async (t) => {
  browser(t);
  const base = "http://gateway:8080/live/demo?session=7";
  offered(base, ANSWER);
  assert.deepEqual(await endpoint(base), { url: "https://gateway:4433/live/demo/webcodecs?session=7", hashes: ["AAAA"] });
  assert.equal(await endpoint("http://other/live/demo"), null);
  assert.equal(await endpoint("http://gateway:8080/live/other"), null);
  // On the port of the pages.
  for (const [page, url] of [["http://own:8080", "https://own:8080/live/demo/webcodecs"], ["http://own", "https://own:80/live/demo/webcodecs"], ["https://own", "https://own/live/demo/webcodecs"]] as const) {
    offered(`${page}/live/demo`, { ...ANSWER, webtransport: { hashes: [] } });
    assert.equal((await endpoint(`${page}/live/demo`))?.url, url);
  }
  offered("http://third/live/demo", { ...ANSWER, webtransport: null });
  assert.equal(await endpoint("http://third/live/demo"), null);
});

test("a ticket goes into the path, for all renditions of its stream", async (t) => {
  browser(t);
  const page = "https://ticketed";
  offered(`${page}/live/a%40b`, { ...ANSWER, ticket: "abc.def", webtransport: { hashes: [] } });
  const url = async (path: string) => (await endpoint(page + path))?.url;
  assert.equal(await url("/live/a"), "https://ticketed/live/~abc.def/a/webcodecs");
  assert.equal(await url("/live/a@c?session=7"), "https://ticketed/live/~abc.def/a@c/webcodecs?session=7");
  assert.equal(await url("/live/b"), undefined);
});

test("WebKit is offered nothing", async (t) => {
  browser(t, AGENTS.find(([agent]) => agent.includes("Version/26.4"))?.[0]);
  offered("http://webkit/live/demo", ANSWER);
  assert.equal(await endpoint("http://webkit/live/demo"), null);
});

test("where WebTransport was blocked it is tried again after ten minutes", async (t) => {
  const { clock, stored } = browser(t);
  replace(t, "fetch", async () => Response.json(ANSWER));
  const base = "http://blocked:8080/live/demo";
  offered(base, ANSWER);
  noteBlocked(new URL(base));
  assert.equal(await endpoint(base), null);
  assert.deepEqual([...stored], [["sluicegate-webtransport-blocked/http://blocked:8080", "601000"]]);
  clock.advance(600_000);
  assert.notEqual(await endpoint(base), null);
  // As another page of the tab left it.
  offered("http://stored/live/demo", ANSWER);
  stored.set("sluicegate-webtransport-blocked/http://stored", String(Date.now() + 1));
  assert.equal(await endpoint("http://stored/live/demo"), null);
});

test("the gateway is asked again when a connection has ended, and after a while", async (t) => {
  const { clock } = browser(t);
  const asked: string[] = [];
  let hashes = ["AAAB"];
  replace(t, "fetch", async (url: URL) => {
    asked.push(url.href);
    if (hashes.length === 0) return new Response("too many sessions", { status: 503 });
    return Response.json({ ...ANSWER, webtransport: { hashes } });
  });
  const base = "http://again/live/demo@small?session=7";
  offered(base, ANSWER);
  assert.deepEqual((await endpoint(base))?.hashes, ["AAAA"]);
  doubtOffer(new URL(base));
  assert.deepEqual((await endpoint(base))?.hashes, ["AAAB"]);
  assert.deepEqual(asked, ["http://again/live/demo@small?can=webcodecs"]);
  hashes = ["AAAC"];
  clock.advance(45_000);
  assert.deepEqual((await endpoint(base))?.hashes, ["AAAB"]);
  clock.advance(1);
  assert.deepEqual((await endpoint(base))?.hashes, ["AAAC"]);
  hashes = [];
  doubtOffer(new URL(base));
  assert.deepEqual((await endpoint(base))?.hashes, ["AAAC"], "what is known is tried");
  replace(t, "fetch", async () => {
    throw new TypeError("no answer");
  });
  await assert.rejects(endpoint(base));
  doubtOffer(new URL("http://unknown"));
  assert.equal(await endpoint("http://unknown/live/demo"), null);
});

/** A session on its way to being open; requests over TCP have their answers after `answerMs`, or fail then. */
function opening(t: TestContext, answerMs: number | null = 0, fails = false) {
  const clock = new Clock(t);
  const asked: number[] = [];
  const ask = (signal: AbortSignal): Promise<void> => {
    asked.push(clock.now);
    return new Promise((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      if (answerMs !== null) clock.start(fails ? reject : resolve, answerMs);
    });
  };
  replace(t, "WebTransport", FakeSession);
  const controller = new AbortController();
  const opened = openWebTransport({ url: "https://gateway:4433/live/demo/webcodecs", hashes: ["AQID"] }, ask, controller.signal);
  return { clock, asked, controller, opened, session: FakeSession.last };
}

test("a session opens with the certificates that the gateway named", async (t) => {
  const { opened, session } = opening(t);
  assert.deepEqual(session.options.serverCertificateHashes?.map(({ value }) => [...value]), [[1, 2, 3]]);
  session.open();
  assert.equal(await opened, session);
});

test("a session that does not open is given up after a while, one that is refused at once", async (t) => {
  const silent = opening(t);
  await elapse(silent.clock, OPEN_MS - 1);
  assert.equal(silent.session.closedByPage, false);
  await elapse(silent.clock, 1);
  assert.deepEqual([await silent.opened, silent.session.closedByPage], ["blocked", true]);
  const refused = opening(t);
  refused.session.refuse();
  assert.equal(await refused.opened, "refused");
  const stopped = opening(t);
  stopped.controller.abort();
  stopped.session.open();
  assert.deepEqual([await stopped.opened, stopped.session.closedByPage], ["refused", true]);
  for (const { clock } of [silent, refused, stopped]) {
    await elapse(clock, 0);
    clock.advance(0);
    assert.equal(clock.running, 0);
  }
});

test("where requests over TCP have to wait, a session may take longer, too", async (t) => {
  // One at a time, and no more of them than rounds.
  const busy = opening(t, 2 * ROUND_MS);
  await elapse(busy.clock, 3 * OPEN_MS);
  assert.equal(busy.session.closedByPage, false);
  assert.deepEqual(busy.asked, [0, 4 * ROUND_MS, 8 * ROUND_MS, 12 * ROUND_MS, 16 * ROUND_MS]);
  busy.session.open();
  assert.equal(await busy.opened, busy.session);
  // On a link with this round trip, that is still blocked UDP.
  const far = opening(t, 150);
  await elapse(far.clock, 6 * 300 - 1);
  assert.equal(far.session.closedByPage, false);
  await elapse(far.clock, 1);
  assert.equal(await far.opened, "blocked");
});

test("the lateness of timers is no silence of UDP", async (t) => {
  const { clock, session, opened } = opening(t);
  for (let nth = 0; nth < 4; nth++) {
    clock.stall(4 * ROUND_MS);
    await elapse(clock, 1);
    assert.equal(session.closedByPage, false);
  }
  session.open();
  assert.equal(await opened, session);
});

test("without answers over TCP nothing is known of UDP", async (t) => {
  const unanswered = opening(t, null);
  await elapse(unanswered.clock, GIVE_UP_MS - 1);
  assert.equal(unanswered.session.closedByPage, false);
  await elapse(unanswered.clock, 1);
  assert.deepEqual([await unanswered.opened, unanswered.session.closedByPage, unanswered.asked.length], ["late", true, 1]);
  const failed = opening(t, 10, true);
  await elapse(failed.clock, OPEN_MS);
  assert.deepEqual([await failed.opened, failed.asked.length], ["late", 1]);
  // Answers that come too slowly.
  const slow = opening(t, GIVE_UP_MS / 4);
  await elapse(slow.clock, GIVE_UP_MS);
  assert.deepEqual([await slow.opened, slow.asked.length], ["late", 2]);
  for (const { clock } of [unanswered, failed, slow]) assert.equal(clock.running, 0);
});

test("a record is sent on a stream of its own, unless the session has ended", async (t) => {
  const { session } = opening(t);
  await sendRecord(session as unknown as WebTransport, Uint8Array.of(0, 0, 0, 1, 2));
  assert.deepEqual(session.sent, [[0, 0, 0, 1, 2]]);
  session.close();
  await sendRecord(session as unknown as WebTransport, Uint8Array.of(1));
  assert.equal(session.sent.length, 1);
});

function reading(t: TestContext, wanted: (group: number) => boolean = () => true) {
  const { session } = opening(t);
  const log: string[] = [];
  const ending = readGroups(session as unknown as WebTransport, {
    bytes: () => undefined,
    frame: ({ track, group, data }) => {
      log.push(`${track.kind} ${group}: ${[...data]}`);
      return wanted(group);
    },
    groupEnded: (kind, group, complete) => log.push(`${kind} ${group} ${complete ? "complete" : "cut"}`),
  });
  return { session, log, ending };
}

test("streams are read side by side, and end complete, cut or reset", async (t) => {
  const { session, log, ending } = reading(t);
  const [first, second, third, unknown] = [session.stream(), session.stream(), session.stream(), session.stream()];
  for (const stream of [first, second, third, unknown]) stream.enqueue(catalogue());
  second.enqueue(coded({ group: 2, data: [2] }));
  first.enqueue(coded({ track: 1, group: 1, data: [1] }));
  third.enqueue(coded({ group: 3, data: [3] }));
  third.enqueue(coded({ group: 3, data: [4] }).subarray(0, 9));
  await settled();
  second.error(new Error("reset"));
  first.close();
  third.close();
  unknown.error(new Error("reset"));
  await settled();
  assert.deepEqual(log.sort(), ["audio 1 complete", "audio 1: 1", "video 2 cut", "video 2: 2", "video 3 cut", "video 3: 3"]);
  session.lose();
  assert.deepEqual(await ending, { kind: "lost", reason: "the connection was lost" });
});

test("a stream of a group that is too late is cancelled", async (t) => {
  const { session, log } = reading(t, (group) => group > 1);
  const stream = session.stream();
  stream.enqueue(catalogue());
  stream.enqueue(coded({ group: 1 }));
  await settled();
  assert.throws(() => stream.enqueue(coded({ group: 1 })));
  assert.deepEqual(log, ["video 1: 1", "video 1 cut"]);
});

test("damage ends the session with its reason", async (t) => {
  const { session, ending } = reading(t);
  session.stream().enqueue(record(0, [1]));
  assert.deepEqual(await ending, { kind: "lost", reason: "the gateway sent a catalogue that is not a JSON object" });
  assert.equal(session.closedByPage, true);
  const version = reading(t);
  version.session.stream().enqueue(catalogue({ version: 2 }));
  assert.equal((await version.ending).kind, "unsupported");
});

test("a fault of the player has a reason, and is no stream that was reset", async (t) => {
  const { session, ending } = reading(t, () => {
    throw new TypeError("oh");
  });
  const stream = session.stream();
  stream.enqueue(catalogue());
  stream.enqueue(coded({ group: 1 }));
  assert.deepEqual(await ending, { kind: "unsupported", reason: "the player failed (TypeError: oh)" });
});

test("many streams at once are bounded, and those that give way are incomplete", async (t) => {
  const { session, log } = reading(t);
  const streams = Array.from({ length: 70 }, () => session.stream());
  streams[0]?.enqueue(catalogue());
  streams[0]?.enqueue(coded({ group: 7 }));
  await settled();
  assert.deepEqual(log, ["video 7: 1", "video 7 cut"]);
  const open = streams.filter((stream) => {
    try {
      stream.enqueue(catalogue());
      return true;
    } catch {
      return false;
    }
  });
  assert.deepEqual([open.length, open[0] === streams[6]], [64, true]);
});
