// Parser for the Markdown subset used in descriptions: paragraphs, lists, fenced code, `code` and **strong**.
// Everything else, including HTML, is plain text. Pure.

/** A run of text of one kind. */
export interface Span {
  readonly kind: "text" | "code" | "strong";
  readonly text: string;
}

export type Block =
  | { readonly kind: "paragraph"; readonly spans: readonly Span[] }
  | { readonly kind: "list"; readonly ordered: boolean; readonly items: readonly (readonly Span[])[] }
  | { readonly kind: "code"; readonly text: string };

const ITEM = /^\s*(?:[-*+]|(\d+)[.)])\s+(.*)$/;
const FENCE = /^\s*```/;

/** Parses a description. */
export function blocks(source: string): Block[] {
  const found: Block[] = [];
  const lines = source.replace(/\r\n?/g, "\n").split("\n");
  let paragraph: string[] = [];
  let items: string[] = [];
  let ordered = false;
  const end = (): void => {
    if (paragraph.length > 0) found.push({ kind: "paragraph", spans: spans(paragraph.join(" ")) });
    if (items.length > 0) found.push({ kind: "list", ordered, items: items.map(spans) });
    paragraph = [];
    items = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] ?? "";
    if (FENCE.test(line)) {
      end();
      const code: string[] = [];
      while (++at < lines.length && !FENCE.test(lines[at] ?? "")) code.push(lines[at] ?? "");
      found.push({ kind: "code", text: code.join("\n") });
      continue;
    }
    const item = ITEM.exec(line);
    if (line.trim() === "") {
      end();
    } else if (item !== null) {
      if (paragraph.length > 0 || (items.length > 0 && ordered !== (item[1] !== undefined))) end();
      ordered = item[1] !== undefined;
      items.push(item[2] ?? "");
    } else if (items.length > 0) {
      // Continuation line of a list item.
      items.push(`${items.pop()} ${line.trim()}`);
    } else {
      paragraph.push(line.trim());
    }
  }
  end();
  return found;
}

/** Parses the inline markup of one line. */
export function spans(source: string): Span[] {
  return source.split(/(`[^`]+`|\*\*[^*]+\*\*)/).flatMap((part): Span[] => {
    if (part === "") return [];
    if (/^`[^`]+`$/.test(part)) return [{ kind: "code", text: part.slice(1, -1) }];
    if (/^\*\*[^*]+\*\*$/.test(part)) return [{ kind: "strong", text: part.slice(2, -2) }];
    return [{ kind: "text", text: part }];
  });
}
