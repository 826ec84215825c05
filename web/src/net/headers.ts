// Figures in headers.

/** A number that is not negative; null where there is none. */
export function header(headers: Headers, name: string): number | null {
  const value = headers.get(name);
  if (value === null || !/^\d+(\.\d+)?$/.test(value.trim())) return null;
  return Number(value);
}
