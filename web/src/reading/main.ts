// A page of the documentation can be read without this: it closes the contents on a phone, and gives code a button to
// copy it.

import { followContents } from "../page/contents";
import { byId, element } from "../page/dom";

const contents = byId("Contents") as HTMLDetailsElement;
followContents(contents);
contents.dataset["ready"] = "";
// In sight, however long the contents are.
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
    // No clipboard on plain HTTP: the old way, which needs the selection.
    getSelection()?.selectAllChildren(code);
    copied = document.execCommand("copy");
  }
  button.textContent = copied ? "Copied" : "Press Ctrl+C";
  setTimeout(() => {
    button.textContent = "Copy";
  }, 1500);
}
