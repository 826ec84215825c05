// The keys of a stream as the form shows them, and back. Keys that the form does not show stay as they are.

import { object } from "../net/json";
import type { ConfiguredStream, Settings } from "../net/streams";
import { counted } from "../page/format";

/** A row of the form: a rendition, as texts. An empty text means the stream's own value. */
export interface RenditionRow {
  readonly name: string;
  readonly width: string;
  readonly frameRate: string;
  readonly bitrate: string;
  /** The name that it had, whose other keys it keeps; empty for a new one. */
  readonly before: string;
}

/** What the form holds. */
export interface FormValues {
  /** Empty to keep the source. */
  readonly source: string;
  readonly alwaysOn: boolean;
  readonly renditions: readonly RenditionRow[];
}

/** The rows for a stream's renditions. */
export function renditionRows(settings: Settings): RenditionRow[] {
  return Object.entries(object(settings["renditions"]) ?? {}).map(([name, keys]) => {
    const rendition = object(keys) ?? {};
    return {
      name,
      width: shown(rendition["width"]),
      frameRate: shown(rendition["frame-rate"]),
      bitrate: shown(rendition["bitrate"]),
      before: name,
    };
  });
}

/** The body of a request that gives a stream with the settings `before` these values. */
export function settingsOf(values: FormValues, before: Settings): Record<string, unknown> {
  const settings: Record<string, unknown> = { ...before };
  delete settings["source"];
  if (values.source !== "") settings["source"] = values.source;
  delete settings["always-on"];
  if (values.alwaysOn) {
    settings["always-on"] = true;
    // It has no effect then, and the two together are refused.
    delete settings["idle"];
  }
  delete settings["renditions"];
  if (values.renditions.length > 0) settings["renditions"] = renditions(values.renditions, object(before["renditions"]) ?? {});
  return settings;
}

/** What is wrong with the rows, for people; null if nothing is. */
export function rowProblem(rows: readonly RenditionRow[]): string | null {
  const names = rows.map(({ name }) => name);
  if (names.includes("")) return "Each rendition needs a name.";
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  return twice === undefined ? null : `There are two renditions called ${twice}.`;
}

/** The keys of a stream that a try needs: how its URL is fetched. */
export function tryBody(source: string, before: Settings): Record<string, unknown> {
  const body: Record<string, unknown> = { source };
  for (const key of ["every", "redirects"]) if (before[key] !== undefined) body[key] = before[key];
  return body;
}

/** Where a stream is kept and what is set, in a line. */
export function describe({ kept, settings }: ConfiguredStream): string {
  const names = Object.keys(object(settings["renditions"]) ?? {});
  const parts = [PLACES[kept] ?? kept];
  if (settings["always-on"] === true) parts.push("always on");
  if (names.length > 0) parts.push(`${counted(names.length, "rendition", "renditions")}: ${names.join(", ")}`);
  return parts.join(" · ");
}

const PLACES: Readonly<Record<string, string>> = {
  config: "in the config file or on the command line, to be changed there",
  state: "added here",
  device: "discovered device",
};

function renditions(rows: readonly RenditionRow[], before: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(
    rows.map((row) => {
      const keys: Record<string, unknown> = { ...object(before[row.before]) };
      set(keys, "width", numeric(row.width));
      set(keys, "frame-rate", numeric(row.frameRate));
      set(keys, "bitrate", row.bitrate.trim());
      return [row.name, keys];
    }),
  );
}

function set(keys: Record<string, unknown>, key: string, value: unknown): void {
  if (value === "") delete keys[key];
  else keys[key] = value;
}

/** A number if the text is one; otherwise the text, so that the gateway says what is wrong with it. */
function numeric(value: string): number | string {
  const trimmed = value.trim();
  return /^\d+$/.test(trimmed) ? Number(trimmed) : trimmed;
}

function shown(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : "";
}
