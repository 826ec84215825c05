// The dashboard: every stream the gateway knows, who watches, and what happened, live. Events say that something changed;
// the figures are asked for then, and once a second for the rates.

import { ApiError, type Device, type Encoder, fetchDevices, fetchMuxers, fetchViewers, type Muxer, type Viewer } from "../net/api";
import { followEvents } from "../net/events";
import { byId, element, setText } from "../page/dom";
import { bitRate, counted, duration } from "../page/format";
import { poll } from "../page/poll";
import { Card } from "./card";
import { Happenings } from "./happenings";
import { rowsOf } from "./muxers";

const cards = new Map<string, Card>();
const list = byId("streams");
const banner = byId("banner");
const empty = byId("empty");
const happenings = new Happenings(byId("happenings"), byId("happenings-list"));
/** Whether this page may see how the transports' components do; asked once for each run of the gateway. */
let maySeeMuxers = true;

const look = poll(async (signal) => {
  try {
    const [devices, viewers, muxers] = await Promise.all([
      fetchDevices(signal),
      fetchViewers(signal).catch(none),
      maySeeMuxers ? fetchMuxers(signal).catch(none) : [],
    ]);
    maySeeMuxers &&= muxers !== null;
    showDevices(devices, muxers ?? []);
    showViewers(viewers);
    banner.hidden = true;
  } catch (error) {
    if (document.visibilityState !== "visible") return;
    const text = error instanceof ApiError ? `The gateway says: ${error.message}` : "The gateway does not answer. Trying again.";
    setText(banner, text);
    banner.hidden = false;
  }
  document.documentElement.dataset["stale"] = String(!banner.hidden);
});

followEvents((happening) => {
  if (happening.kind === "hello") maySeeMuxers = true;
  happenings.add(happening);
  look();
});

/** A gateway without that route still has its streams shown; one that is gone is noticed by the other request. */
function none(error: unknown): [] {
  if (error instanceof ApiError) return [];
  throw error;
}

function showDevices(devices: readonly Device[], muxers: readonly Muxer[]): void {
  const now = Date.now();
  const gone = new Set(cards.keys());
  devices.forEach((device, at) => {
    gone.delete(device.serial);
    let card = cards.get(device.serial);
    if (card === undefined) {
      card = new Card(device);
      cards.set(device.serial, card);
    }
    card.update(device, rowsOf(device, muxers), now);
    const place = list.children[at];
    if (place !== card.node) list.insertBefore(card.node, place ?? null);
  });
  for (const serial of gone) {
    cards.get(serial)?.remove();
    cards.delete(serial);
  }
  const live = devices.filter((device) => device.state === "live").length;
  const sum = (pick: (device: Device) => number | null): number =>
    devices.reduce((total, device) => total + (pick(device) ?? 0), 0);
  setText(byId("total-streams"), `${live} of ${devices.length}`);
  setText(byId("total-viewers"), String(sum((device) => device.viewers)));
  setText(byId("total-in"), bitRate(sum((device) => device.bitsIn)));
  setText(byId("total-out"), bitRate(sum((device) => device.bitsOut)));
  empty.hidden = devices.length > 0;
  showEncoder(devices[0]?.encoder ?? null);
}

/** It is the same for every stream. */
function showEncoder(encoder: Encoder | null): void {
  const node = byId("encoder");
  node.hidden = encoder === null;
  if (encoder === null) return;
  const used = encoder.name === "" ? "No encoder works here." : `Video is encoded by ${encoder.name}.`;
  const others = encoder.passedOver.map(({ name, reason }) => `${name}: ${reason}`);
  setText(node, others.length === 0 ? used : `${used} Passed over: ${others.join("; ")}.`);
}

function showViewers(viewers: readonly Viewer[]): void {
  const section = byId("viewers");
  section.hidden = viewers.length === 0;
  setText(byId("viewers-title"), counted(viewers.length, "viewer", "viewers"));
  const now = Date.now();
  const rows = viewers.slice(0, 100).map((viewer) => {
    const stream = viewer.rendition === "" ? viewer.stream : `${viewer.stream}@${viewer.rendition}`;
    const since = viewer.since === null ? "–" : duration(now - viewer.since);
    const cells = [stream, viewer.transport, since, viewer.reason].map((text) => element("td", {}, text || "–"));
    return element("tr", {}, ...cells);
  });
  byId("viewers-rows").replaceChildren(...rows);
}
