// Optional script of the documentation pages, which are readable without it: collapses the contents on phones, and
// adds copy buttons to code blocks.

import { followContents } from "../page/contents";
import { byId, element } from "../page/dom";

const contents = byId("Contents") as HTMLDetailsElement;
followContents(contents);
contents.dataset["ready"] = "";
// Scrolls the current entry into view.
const current = contents.querySelector("[aria-current]");
const list = contents.closest("nav");
if (current instanceof HTMLElement && list !== null) list.scrollTop = Math.max(0, current.offsetTop - list.clientHeight / 3);

for (const code of document.querySelectorAll("article pre")) {
  const button = element("button", { type: "button", class: "quiet", "aria-label": "Copy the code" }, "Copy");
  button.addEventListener("click", () => void copy(code, button));
  const both = element("div", { class: "code" });
  code.replaceWith(both);
  both.append(code, button);
}

async function copy(code: Element, button: HTMLButtonElement): Promise<void> {
  let copied = false;
  try {
    await navigator.clipboard.writeText((code.textContent ?? "").trimEnd());
    copied = true;
  } catch {
    // The clipboard API needs a secure context; the older command works on the selection.
    getSelection()?.selectAllChildren(code);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}
