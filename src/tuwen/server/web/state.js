// What stands in place of pictures: nothing there yet, nothing that fits, something wrong; each with a next step.

import { $, make } from "./dom.js";
import { say } from "./words.js";

const box = $("state");

export function clear() {
  box.hidden = true;
  box.replaceChildren();
}

/** A title, what else there is to say, and the ways on as `[key, action]`. */
export function tell(title, said = [], ways = []) {
  box.hidden = false;
  const buttons = ways.map(([key, act]) => say(make("button", { type: "button", onclick: act }), key));
  if (buttons.length) buttons[0].className = "main";
  box.replaceChildren(say(make("h2"), title), ...said, make("div", { class: "ways" }, ...buttons));
}

export const line = (key, args) => say(make("p"), key, args);
export const quote = (words) => make("p", { dir: "auto", class: "said" }, words);
export const command = (words) => make("pre", { dir: "ltr" }, words);
