// The tray: pictures that steer the search, towards them or away.

import { $, icon, make } from "./dom.js";
import { show, thumbnail } from "./pictures.js";
import { label, say } from "./words.js";

/** Show what steers. `name(id)` knows a picture's name, or not; `open(id)` and `out(id)` are called by the buttons. */
export function showTray({ like, unlike, text, picture }, { name, open, out }) {
  $("tray").hidden = !like.length && !unlike.length;
  const item = (how) => (id) => {
    const called = { name: name(id) ?? `${id.slice(0, 8)}…` };
    const img = make("img", { alt: "" });
    show(img, thumbnail(id));
    const look = make("button", { type: "button", class: "look", onclick: () => open(id) }, img);
    const drop = make("button", { type: "button", class: "out", onclick: () => out(id) }, icon("close"));
    const sign = make("span", { class: "sign", "aria-hidden": "true" }, how === "liked" ? "+" : "−");
    return make("li", { class: how }, label(look, how, called), sign, label(drop, "drop", called));
  };
  $("chosen").replaceChildren(...like.map(item("liked")), ...unlike.map(item("unliked")));
  if (unlike.length && !like.length && !text && !picture) $("chosen").append(say(make("li", { class: "hint" }), "only-unlike"));
}
