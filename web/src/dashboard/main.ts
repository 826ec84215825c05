// Entry point of the dashboard: all streams as a wall of tiles, captures, viewers and events. Statistics are polled
// once a second, and at once when an event arrives.

import { ApiError, type Device, type Encoder, fetchDevices, fetchMuxers, fetchViewers } from "../net/api";
import { CaptureError, captureImage } from "../net/capture";
import { followEvents } from "../net/events";
import { byId, setText } from "../page/dom";
import { bitRate } from "../page/format";
import { poll } from "../page/poll";
import { type Capture, Captures } from "./captures";
import { Gallery } from "./gallery";
import { EventList } from "./event_list";
import { StreamDialog } from "./stream_dialog";
import { Strip } from "./strip";
import { ViewersTable } from "./viewers";
import { Wall } from "./wall";

const banner = byId("banner");
const eventList = new EventList(byId("events"), byId("events-list"));
const viewersTable = new ViewersTable();
const captures = new Captures((url) => URL.revokeObjectURL(url));
const gallery = new Gallery(captures);
const strip = new Strip(
  byId("captures"),
  { title: byId("captures-title"), list: byId("captures-list"), clear: byId("captures-clear") },
  {
    open: (capture) => gallery.open(capture),
    clear: () => {
      captures.clear();
      capturesChanged();
      byId("title").focus();
    },
  },
);
// While a stream is open in the dialog, it has the link to itself, except for one preview at a time.
const streamDialog = new StreamDialog(capture, (open) => (wall.reserved += open ? 2 : -2));
const wall = new Wall(byId("streams"), wantsAll(), capture, (device) => streamDialog.open(device));
/** Whether this page may list the muxers; requested again after each restart of the gateway. */
let maySeeMuxers = true;

const refresh = poll(async (signal) => {
  try {
    const [devices, viewers, muxers] = await Promise.all([
      fetchDevices(signal),
      fetchViewers(signal).catch(emptyIfMissing),
      maySeeMuxers ? fetchMuxers(signal).catch(emptyIfMissing) : [],
    ]);
    maySeeMuxers &&= muxers !== null;
    // Whoever may see them administers the gateway.
    byId("manage").hidden = !maySeeMuxers;
    const now = Date.now();
    wall.update(devices, muxers ?? [], now);
    showTotals(devices);
    showEncoder(devices[0]?.encoder ?? null);
    viewersTable.update(viewers, now);
    banner.hidden = true;
  } catch (error) {
    if (document.visibilityState !== "visible") return;
    const text = error instanceof ApiError ? `The gateway reports an error: ${error.message}` : "The gateway is not responding. Retrying…";
    setText(banner, text);
    banner.hidden = false;
  }
  document.documentElement.dataset["stale"] = String(!banner.hidden);
});

followEvents((event) => {
  if (event.kind === "hello") maySeeMuxers = true;
  eventList.add(event);
  refresh();
});

followShowAll();

/**
 * An older gateway may lack this route; its streams are displayed anyway. A gateway that is down is noticed by the
 * other request.
 */
function emptyIfMissing(error: unknown): [] {
  if (error instanceof ApiError) return [];
  throw error;
}

/** Requests a capture. An error is also added to the events, where it stays when the tile is gone. */
async function capture(serial: string, save: boolean): Promise<Capture> {
  wall.reserved++;
  try {
    const { id: _, blob, ...metadata } = await captureImage(serial, save);
    const capture = captures.add({ ...metadata, serial, blob, bytes: blob.size, url: URL.createObjectURL(blob) });
    capturesChanged();
    return capture;
  } catch (error) {
    const code = error instanceof CaptureError ? `${error.code}: ` : "";
    eventList.addLine(Date.now(), { text: `${serial}: capture failed: ${code}${error instanceof Error ? error.message : String(error)}`, tone: "bad" });
    throw error;
  } finally {
    wall.reserved--;
  }
}

function capturesChanged(): void {
  strip.update(captures.list);
  gallery.update();
}

function showTotals(devices: readonly Device[]): void {
  const live = devices.filter((device) => device.state === "live").length;
  const sum = (pick: (device: Device) => number | null): number => devices.reduce((total, device) => total + (pick(device) ?? 0), 0);
  setText(byId("total-streams"), `${live} of ${devices.length}`);
  setText(byId("total-viewers"), String(sum((device) => device.viewers)));
  setText(byId("total-in"), bitRate(sum((device) => device.bitsIn)));
  setText(byId("total-out"), bitRate(sum((device) => device.bitsOut)));
  byId("empty").hidden = devices.length > 0;
  byId("show-all").hidden = devices.length === 0;
}

/** Displays the encoder, which is the same for all streams. */
function showEncoder(encoder: Encoder | null): void {
  const node = byId("encoder");
  node.hidden = encoder === null;
  if (encoder === null) return;
  const used = encoder.name === "" ? "No working H.264 encoder was found." : `Video encoder: ${encoder.name}.`;
  const others = encoder.passedOver.map(({ name, reason }) => `${name}: ${reason}`);
  setText(node, others.length === 0 ? used : `${used} Not used: ${others.join("; ")}.`);
}

/** The setting is kept in the URL, so that it can be bookmarked on a wall display. */
function wantsAll(): boolean {
  return new URLSearchParams(location.search).get("show") === "all";
}

function followShowAll(): void {
  const button = byId("show-all");
  const update = (all: boolean): void => button.setAttribute("aria-pressed", String(all));
  update(wantsAll());
  button.addEventListener("click", () => {
    const all = !wantsAll();
    const url = new URL(location.href);
    if (all) url.searchParams.set("show", "all");
    else url.searchParams.delete("show");
    history.replaceState(null, "", url);
    wall.all = all;
    update(all);
  });
}
