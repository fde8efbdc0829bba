// Pictures into the index: a few at a time, so that one sees how far it is and may stop.

import { call } from "./api.js";
import { make } from "./dom.js";
import { complain, note } from "./notes.js";
import { show, thumbnail } from "./pictures.js";
import { label, say } from "./words.js";

const TOGETHER = 4;
const SHOWN = 8;

/** Add files; `added()` is called when the index has changed, `open(id)` when one of the new ones is asked for. */
export async function add(files, { added, open }) {
  const report = { indexed: 0, unchanged: 0, rejected: [], images: [] };
  const going = new AbortController();
  const progress = note("adding", { n: 0, total: files.length }, { stays: true });
  progress.add(say(make("button", { type: "button", onclick: () => going.abort() }), "stop"));
  try {
    for (let at = 0; at < files.length; at += TOGETHER) {
      progress.tell("adding", { n: Math.min(files.length, at + TOGETHER), total: files.length });
      gather(report, await send(files.slice(at, at + TOGETHER), going.signal));
    }
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
  }
  progress.close();
  if (report.images.length || report.rejected.length) tell(report, open);
  if (report.indexed) added();
}

function send(files, signal) {
  const form = new FormData();
  for (const file of files) form.append("files", file);
  return call("POST", "v1/images", form, signal);
}

function gather(report, { indexed, unchanged, rejected, images }) {
  report.indexed += indexed;
  report.unchanged += unchanged;
  report.rejected.push(...rejected);
  report.images.push(...images);
}

function tell({ indexed, unchanged, rejected, images }, open) {
  const done = note("added", { n: indexed }, { stays: rejected.length > 0 });
  if (unchanged) done.add(say(make("p"), "added-before", { n: unchanged }));
  if (rejected.length) {
    done.add(say(make("p"), "not-added", { n: rejected.length }));
    done.add(make("ul", {}, ...rejected.map(({ path, reason }) => make("li", { dir: "auto" }, `${path}: ${reason}`))));
  }
  const look = ({ id, path }) => {
    const img = make("img", { alt: "" });
    show(img, thumbnail(id));
    return label(make("button", { type: "button", onclick: () => open(id) }, img), "look-at", { name: path });
  };
  done.add(make("div", { class: "new" }, ...images.slice(0, SHOWN).map(look)));
}
