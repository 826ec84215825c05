// Settings stored in this browser; where storage is not available, they last as long as the page.

export function loadSetting(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Stores a value; null removes it. */
export function saveSetting(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // No storage.
  }
}

/** Storage key: "false" if audio is on; absent if muted. */
export const MUTED = "sluicegate-muted";

/** Storage key of the selected transport, for all streams. */
export const TRANSPORT = "sluicegate-transport";
