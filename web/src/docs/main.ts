// The page of the API: what `/api/openapi.json` says, for people.

import { fetchManual } from "../net/api";
import { followContents } from "../page/contents";
import { byId, setText } from "../page/dom";
import { readManual } from "./manual";
import { ManualView } from "./manual_view";
import { blockNodes } from "./markdown_view";

const banner = byId("banner");
const filter = byId("filter") as HTMLInputElement;
const contents = byId("contents") as HTMLDetailsElement;

void show();

async function show(): Promise<void> {
  try {
    const manual = readManual(await fetchManual());
    const view = new ManualView(manual, byId("filter-status"));
    setText(byId("title"), manual.title);
    setText(byId("version"), manual.version === "" ? "" : `Version ${manual.version}`);
    byId("about").replaceChildren(...blockNodes(manual.description));
    byId("contents-list").replaceWith(view.contents);
    byId("text").replaceWith(view.text);
    followFilter(view);
    followContents(contents);
    goThere(view);
  } catch (error) {
    setText(banner, `The description of the API did not come: ${error instanceof Error ? error.message : String(error)}. Load the page again.`);
    banner.hidden = false;
  }
}

function followFilter(view: ManualView): void {
  filter.addEventListener("input", () => view.filter(filter.value));
  // A link to what the filter hides shows everything again.
  window.addEventListener("hashchange", () => goThere(view));
  filter.disabled = false;
}

/** The text was not there yet when the browser looked for the place in the address. */
function goThere(view: ManualView): void {
  // Every place has a name that needs no encoding.
  const id = location.hash.slice(1);
  const place = id === "" ? null : document.getElementById(id);
  if (place === null) return;
  if (place.closest("[hidden]") !== null) {
    filter.value = "";
    view.filter("");
  }
  place.scrollIntoView();
}
