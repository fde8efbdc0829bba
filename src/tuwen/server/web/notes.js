// Short notes at the edge of the page: what has been done, what went wrong. Read out as they appear.

import { $, icon, make } from "./dom.js";
import { label, say } from "./words.js";

const SECONDS = 6;

/** Put a note up; it goes by itself unless `stays`. Gives what changes it: `tell`, `add` a node to it, `close`. */
export function note(key, args, { stays = false } = {}) {
  const words = say(make("p"), key, args);
  const dismiss = make("button", { type: "button", class: "plain", onclick: () => box.remove() }, icon("close"));
  const box = make("div", { class: "note" }, words, label(dismiss, "dismiss"));
  $("notes").append(box);
  if (!stays) setTimeout(() => box.remove(), SECONDS * 1000);
  return {
    tell: (key, args) => say(words, key, args),
    add: (node) => (box.insertBefore(node, dismiss), node),
    close: () => box.remove(),
  };
}

/** A note with the service's own words for what went wrong. */
export function complain(error) {
  note(error.code === "offline" ? "offline-title" : "error-title").add(make("p", { dir: "auto" }, error.status ? error.message : ""));
}
