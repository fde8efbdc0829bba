// The tray: pictures that steer the search, towards them or away.

import { $, icon, make } from "./dom.js";
import { named, show, thumbnail } from "./pictures.js";
import { label, say } from "./words.js";

function face(id, otherwise) {
  const img = make("img", { alt: "" });
  img.onerror = () => img.replaceWith(otherwise);
  show(img, thumbnail(id));
  return img;
}

/** Show what steers. `payload(id)` knows a row's facts, or not; `open(id)` and `out(id)` are called by the buttons. */
export function showTray({ like, unlike, text, picture }, { payload, open, out }) {
  $("tray").hidden = !like.length && !unlike.length;
  const item = (how) => (id) => {
    const facts = payload(id);
    const called = { name: facts ? named(facts) : `${id.slice(0, 8)}…` };
    const words = make("span", { class: "words", dir: "auto" }, called.name);
    const look = make("button", { type: "button", class: "look", onclick: () => open(id) }, facts?.type === "text" ? words : face(id, words));
    const drop = make("button", { type: "button", class: "out", onclick: () => out(id) }, icon("close"));
    const sign = make("span", { class: "sign", "aria-hidden": "true" }, how === "liked" ? "+" : "−");
    return make("li", { class: how }, label(look, how, called), sign, label(drop, "drop", called));
  };
  $("chosen").replaceChildren(...like.map(item("liked")), ...unlike.map(item("unliked")));
  if (unlike.length && !like.length && !text && !picture) $("chosen").append(say(make("li", { class: "hint" }), "only-unlike"));
}
