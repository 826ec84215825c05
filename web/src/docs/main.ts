// Entry point of the API page, which renders `/api/openapi.json`.

import { fetchApiDescription } from "../net/api";
import { followContents } from "../page/contents";
import { byId, setText } from "../page/dom";
import { readApiDescription } from "./api_description";
import { ApiView } from "./api_view";
import { blockNodes } from "./markdown_view";

const banner = byId("banner");
const filter = byId("filter") as HTMLInputElement;
const contents = byId("contents") as HTMLDetailsElement;

void show();

async function show(): Promise<void> {
  try {
    const description = readApiDescription(await fetchApiDescription());
    const view = new ApiView(description, byId("filter-status"));
    setText(byId("title"), description.title);
    setText(byId("version"), description.version === "" ? "" : `Version ${description.version}`);
    byId("about").replaceChildren(...blockNodes(description.description));
    byId("contents-list").replaceWith(view.contents);
    byId("text").replaceWith(view.text);
    followFilter(view);
    followContents(contents);
    scrollToFragment(view);
  } catch (error) {
    setText(banner, `The API description could not be loaded: ${error instanceof Error ? error.message : String(error)}. Reload the page.`);
    banner.hidden = false;
  }
}

function followFilter(view: ApiView): void {
  filter.addEventListener("input", () => view.filter(filter.value));
  // A link to an entry hidden by the filter resets the filter.
  window.addEventListener("hashchange", () => scrollToFragment(view));
  filter.disabled = false;
}

/** Scrolls to the URL's fragment, whose target did not exist yet when the browser looked for it. */
function scrollToFragment(view: ApiView): void {
  // No id needs percent-encoding.
  const id = location.hash.slice(1);
  const target = id === "" ? null : document.getElementById(id);
  if (target === null) return;
  if (target.closest("[hidden]") !== null) {
    filter.value = "";
    view.filter("");
  }
  target.scrollIntoView();
}
