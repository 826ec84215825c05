// Formats numbers for display.

const UNKNOWN = "–";

/** Bit rate, in the unit that keeps the number short. */
export function bitRate(bits: number | null): string {
  if (bits === null || !Number.isFinite(bits)) return UNKNOWN;
  if (bits >= 1e6) return `${(bits / 1e6).toFixed(bits >= 1e8 ? 0 : 1)} Mbit/s`;
  if (bits >= 1e3) return `${(bits / 1e3).toFixed(0)} kbit/s`;
  return `${Math.round(bits)} bit/s`;
}

/** Text such as "WebCodecs over WebTransport"; `carrier` is null for transports that have one only. */
export function labelWithCarrier(label: string, carrier: string | null): string {
  return carrier === null ? label : `${label} over ${carrier}`;
}

/** Milliseconds; slightly negative values occur if clocks differ. */
export function milliseconds(ms: number | null): string {
  return ms === null || !Number.isFinite(ms) ? UNKNOWN : `${Math.round(ms)} ms`;
}

/** Width × height in pixels. */
export function size(width: number | null, height: number | null): string {
  return width === null || height === null || width <= 0 || height <= 0 ? UNKNOWN : `${width} × ${height}`;
}

/** Frames per second, with at most two decimals. */
export function frameRate(rate: number | null): string {
  if (rate === null || !Number.isFinite(rate) || rate <= 0) return UNKNOWN;
  return `${Number(rate.toFixed(2))} fps`;
}

/** Duration, in at most two units. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** `count` with the singular or plural noun. */
export function counted(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** File size. */
export function fileSize(bytes: number): string {
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  return bytes >= 1e3 ? `${(bytes / 1e3).toFixed(0)} kB` : `${bytes} bytes`;
}
