// Entry point of the player page: the player, the selection of transport (also in `?transport=`) and rendition, and
// statistics.

import { type Device, fetchDevices, unknownReason } from "../net/api";
import { gatewayUrl } from "../net/gateway";
import { addressList } from "../page/addresses";
import { setBadge } from "../page/badge";
import { byId, element, setText } from "../page/dom";
import { bitRate, frameRate, labelWithCarrier, milliseconds, size } from "../page/format";
import { poll } from "../page/poll";
import { saveSetting, loadSetting, TRANSPORT } from "../page/settings";
import { persistMuted } from "../page/muted";
import { encodeStream, NO_RENDITION } from "../player/address";
import type { SluicegatePlayer, TransportOption } from "../player/element";
import type { Choices, DirectorState } from "../player/director";
import type { Stats } from "../player/stats";

const stream = streamInPath(location.pathname);
const base = gatewayUrl(`live/${encodeStream(stream)}`).pathname;
/** Client name for the gateway's client rules, from `?client=`. */
const client = new URLSearchParams(location.search).get("client");
const src = client === null ? base : `${base}?client=${encodeURIComponent(client)}`;
const player = byId("player") as SluicegatePlayer;
const problem = byId("problem");
const transports = byId("transports");
/** Names for people of the transports that this player can play. */
const labels = new Map<string, string>();
let forced = false;
const renditions = byId("rendition") as HTMLSelectElement;
/**
 * Storage key of the rendition selected on this device for this stream; the URL takes precedence. `TRANSPORT` is the
 * key for all streams.
 */
const RENDITION = `sluicegate-rendition/${stream}`;

document.title = `${stream} · Sluicegate`;
setText(byId("name"), stream);
(byId("share") as HTMLAnchorElement).href = `../account?stream=${encodeURIComponent(stream.replace(/@.*$/, ""))}`;
showAddresses([]);
followChoices();
persistMuted(player);
player.addEventListener("sluicegate-state", (event) => showState((event as CustomEvent<DirectorState>).detail));
player.addEventListener("sluicegate-choices", (event) => showChoices((event as CustomEvent<Choices>).detail));
player.addEventListener("sluicegate-stats", (event) => showStats((event as CustomEvent<Stats>).detail));
player.setAttribute("src", src);

poll(async (signal) => {
  try {
    const devices = await fetchDevices(signal);
    // A rendition is addressed as `stream@rendition`, while the list contains streams only.
    const device = devices.find(({ serial }) => serial === stream || stream.startsWith(`${serial}@`));
    const isKnown = device?.serial === stream || device?.renditions.some((rendition) => stream === `${device.serial}@${rendition}`);
    const unknown = isKnown === true ? null : await unknownReason(stream, signal);
    setBadge(byId("badge"), device?.state ?? "unknown");
    if (device !== undefined) showDevice(device);
    showProblem(unknown);
  } catch {
    // The player notices the same failure and displays it more prominently.
    if (document.visibilityState === "visible") setBadge(byId("badge"), "unreachable");
  }
});

/** Displays that the stream is unknown. The player does not retry then; it starts once the gateway knows the stream. */
function showProblem(text: string | null): void {
  setText(problem, text ?? "");
  problem.hidden = text === null;
  player.hidden = text !== null;
  if (text !== null) {
    player.removeAttribute("src");
  } else if (!player.hasAttribute("src")) {
    player.setAttribute("src", src);
  }
}

/** Displays the stream's URLs, also those of these transports. */
function showAddresses(transports: readonly string[]): void {
  const addresses = byId("addresses");
  if (addresses.dataset["transports"] === transports.join()) return;
  addresses.dataset["transports"] = transports.join();
  addresses.replaceChildren(addressList(base, transports));
}

function showDevice(device: Device): void {
  showAddresses(device.transports);
  setText(byId("source"), device.source);
  const reason = device.reason === "" || device.state === "live" ? "" : device.reason;
  setText(byId("reason"), [reason, ...device.notes].filter((text) => text !== "").join(" · "));
  setText(byId("source-size"), [size(device.width, device.height), frameRate(device.frameRate)].join(" · "));
  setText(byId("viewers"), String(device.viewers));
}

function showState(state: DirectorState): void {
  const now = state.label ?? "–";
  setText(byId("transport-now"), labelWithCarrier(now, state.carrier));
  setText(byId("fallback"), state.fallback === "" ? "" : `Fell back to ${now}: ${state.fallback}.`);
  setText(byId("why"), why(state));
}

function showStats(stats: Stats): void {
  const labels = { picture: "End-to-end latency", decode: "Decode delay", live: "Behind live" };
  setText(byId("latency-label"), labels[stats.latencyKind ?? "picture"]);
  setText(byId("latency"), milliseconds(stats.latencyMs));
  setText(byId("frames"), `${stats.framesPerSecond.toFixed(1)} /s`);
  setText(byId("rate"), bitRate(stats.bitsPerSecond));
  setText(byId("dropped"), String(stats.dropped));
  setText(byId("reconnects"), String(stats.reconnects));
}

/** Text such as "Moved from MJPEG to HLS (mobile) at 12:03:04: the link carries about 0.8 Mbit/s." */
function why({ why, moved }: DirectorState): string {
  if (moved === null) return why === "" ? "" : `Chosen because ${why}.`;
  const describe = ({ transport, rendition }: { transport: string; rendition: string }): string => {
    const label = labels.get(transport) ?? transport;
    return rendition === "" ? label : `${label} (${rendition})`;
  };
  const at = new Date(moved.at).toLocaleTimeString();
  return `Moved from ${describe(moved.from)} to ${describe(moved.to)} at ${at}: ${moved.reason}.`;
}

/** Updates the list of renditions; hidden if there is only one. */
function showChoices({ candidates, forced: isForced }: Choices): void {
  const names = [...new Set(candidates.map(({ rendition }) => rendition))];
  byId("renditions").hidden = names.length < 2 || stream.includes("@");
  renditions.disabled = forced;
  forced = isForced;
  for (const input of transportInputs()) input.disabled = forced;
  const values = ["", ...names.map((name) => (name === "" ? NO_RENDITION : name))];
  if (values.join() === [...renditions.options].map(({ value }) => value).join()) return;
  const titles = ["Automatic", ...names.map((name) => (name === "" ? "Original" : name))];
  renditions.replaceChildren(...values.map((value, index) => new Option(titles[index], value)));
  renditions.value = player.rendition;
}

function transportInputs(): HTMLInputElement[] {
  return [...transports.querySelectorAll("input")];
}

/** Adds the transports that bring their player to the selection, and removes those that are gone. */
function showTransports(options: readonly TransportOption[]): void {
  for (const { name, label } of options) labels.set(name, label);
  const names = ["auto", ...options.map(({ name }) => name)];
  for (const input of transportInputs()) if (!names.includes(input.value)) input.parentElement?.remove();
  const known = transportInputs().map(({ value }) => value);
  for (const { name, label } of options) {
    if (known.includes(name)) continue;
    const input = element("input", { type: "radio", name: "transport", value: name });
    input.disabled = forced;
    transports.append(element("label", {}, input, element("span", {}, label)));
  }
  // Labels need not differ; names do.
  for (const input of transportInputs()) {
    const label = labels.get(input.value);
    const same = options.filter((option) => option.label === label);
    const span = input.parentElement?.querySelector("span");
    if (label !== undefined && span) setText(span, same.length < 2 ? label : `${label} (${input.value})`);
  }
  // What was selected once, perhaps at another gateway, is not asked for in vain; what the address says is.
  const isAvailable = names.includes(player.transport);
  if (!isAvailable && transportInUrl() === null) player.transport = "auto";
  for (const input of transportInputs()) input.checked = input.value === player.transport;
}

function transportInUrl(): string | null {
  return new URLSearchParams(location.search).get("transport");
}

function followChoices(): void {
  player.setAttribute("rendition", loadSetting(RENDITION) ?? "");
  player.transport = transportInUrl() ?? loadSetting(TRANSPORT) ?? "auto";
  for (const input of transportInputs()) input.checked = input.value === player.transport;
  player.addEventListener("sluicegate-transports", (event) => showTransports((event as CustomEvent<TransportOption[]>).detail));
  transports.addEventListener("change", ({ target }) => {
    const { value } = target as HTMLInputElement;
    player.transport = value;
    saveSetting(TRANSPORT, value);
    const url = new URL(location.href);
    if (value === "auto") {
      url.searchParams.delete("transport");
    } else {
      url.searchParams.set("transport", value);
    }
    history.replaceState(null, "", url);
  });
  renditions.addEventListener("change", () => {
    player.setAttribute("rendition", renditions.value);
    saveSetting(RENDITION, renditions.value);
  });
}

/** Stream name in a path `/watch/NAME`, wherever the gateway is; percent-encoded or not. */
function streamInPath(path: string): string {
  const name = path.replace(/^.*\//, "");
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
