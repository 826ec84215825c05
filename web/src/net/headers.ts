// Numbers in HTTP headers.

/** A header as a non-negative number; null if it is absent or not a number. */
export function header(headers: Headers, name: string): number | null {
  const value = headers.get(name);
  if (value === null || !/^\d+(\.\d+)?$/.test(value.trim())) return null;
  return Number(value);
}
