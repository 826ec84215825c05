// Entry point of the API page, which renders `/api/openapi.json`.

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
    setText(banner, `The API description could not be loaded: ${error instanceof Error ? error.message : String(error)}. Reload the page.`);
    banner.hidden = false;
  }
}

function followFilter(view: ManualView): void {
  filter.addEventListener("input", () => view.filter(filter.value));
  // A link to an entry hidden by the filter resets the filter.
  window.addEventListener("hashchange", () => goThere(view));
  filter.disabled = false;
}

/** Scrolls to the URL's fragment, whose target did not exist yet when the browser looked for it. */
function goThere(view: ManualView): void {
  // No id needs percent-encoding.
  const id = location.hash.slice(1);
  const place = id === "" ? null : document.getElementById(id);
  if (place === null) return;
  if (place.closest("[hidden]") !== null) {
    filter.value = "";
    view.filter("");
  }
  place.scrollIntoView();
}
