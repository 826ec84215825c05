// Entry point of the page on which streams are added, changed and removed.

import { addStream, type ConfiguredStream, deleteStream, fetchStreams, putStream } from "../net/streams";
import { byId, element, setText } from "../page/dom";
import { Keyed } from "../page/keyed";
import { Modal } from "../page/modal";
import { StreamForm } from "./stream_form";
import { StreamItem, watchUrl } from "./stream_item";
import { problemText } from "./trial";

const banner = byId("banner");
const added = byId("added");
const changing = new Modal("change-stream");
const removing = new Modal("remove-stream");
const list = new Keyed<ConfiguredStream, StreamItem>(byId("list"), (stream) => new StreamItem(stream, { change, remove }));

const form = new StreamForm(null, async (name, settings) => {
  added.hidden = true;
  await addStream(name, settings);
  added.hidden = false;
  added.replaceChildren(`${name} was added. `, element("a", { href: watchUrl(name) }, `Watch ${name}`));
  await refresh();
});
byId("add").append(form.node);
void refresh();
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") void refresh();
});

async function refresh(): Promise<void> {
  try {
    const streams = await fetchStreams();
    list.update(streams, ({ name }) => name, (item, stream) => item.update(stream));
    byId("empty").hidden = streams.length > 0;
    byId("list").hidden = streams.length === 0;
    banner.hidden = true;
  } catch (error) {
    setText(banner, problemText(error));
    banner.hidden = false;
  }
}

function change(stream: ConfiguredStream): void {
  const form = new StreamForm(stream, async (name, settings) => {
    await putStream(name, settings);
    changing.close();
    await refresh();
  });
  changing.open(`Change ${stream.name}`, [form.node], () => form.close());
}

function remove({ name }: ConfiguredStream): void {
  const problem = element("p", { class: "banner", role: "alert", hidden: "" });
  const cancel = element("button", { type: "button", class: "quiet" }, "Cancel");
  const confirm = element("button", { type: "button" }, `Remove ${name}`);
  cancel.addEventListener("click", () => removing.close());
  confirm.addEventListener("click", () => {
    void (async () => {
      added.hidden = true;
      try {
        await deleteStream(name);
      } catch (error) {
        setText(problem, problemText(error));
        problem.hidden = false;
        return;
      }
      removing.close();
      added.replaceChildren(`${name} was removed.`);
      added.hidden = false;
      await refresh();
      // The button that had the focus is gone.
      byId("list-title").focus();
    })();
  });
  const about = element("p", {}, "Whoever watches it is disconnected, and its source and settings are forgotten.");
  removing.open(`Remove ${name}?`, [about, problem, element("div", { class: "row" }, cancel, confirm)], () => {});
}
