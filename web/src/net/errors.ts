// Extracts the message for the user from an error response of the gateway.

const MAX_LENGTH = 1000;

/** The message in an error response: JSON `message`, `error` or `reason`, or plain text; otherwise the status. */
export async function errorText(response: Response): Promise<string> {
  const status = `${response.status} ${response.statusText}`.trim();
  let body = "";
  try {
    body = (await response.text()).trim();
  } catch {
    return status;
  }
  const text = fromJson(body) ?? (body.startsWith("<") ? "" : body);
  return text === "" ? status : text.slice(0, MAX_LENGTH);
}

function fromJson(body: string): string | null {
  if (!body.startsWith("{")) return null;
  try {
    return messageIn(JSON.parse(body));
  } catch {
    return null;
  }
}

function messageIn(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (typeof value !== "object" || value === null) return null;
  const fields = value as Record<string, unknown>;
  for (const name of ["message", "error", "reason"]) {
    const text = messageIn(fields[name]);
    if (text !== null) return text;
  }
  return null;
}
