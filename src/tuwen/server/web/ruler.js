// The date ruler: a bar for each year or month, as high as it has pictures; a click keeps to it.

import { $, make } from "./dom.js";
import { label, language } from "./words.js";

let periods = [];
let change = () => {};

/** `change(patch)` is called with the dates that a person chooses. */
export function start(call) {
  change = call;
}

/** Draw the periods of the index; one alone is no ruler. */
export function draw(dates) {
  periods = dates?.periods ?? [];
  $("ruler").hidden = periods.length < 2;
  const most = Math.max(...periods.map(({ rows }) => rows));
  $("ruler").replaceChildren(...periods.map((one) => bar(one, most)));
}

/** Show which bars lie in the dates that are set. */
export function show({ from, to }) {
  [...$("ruler").children].forEach((node, at) => {
    const { first, last } = periods[at];
    const inside = Boolean(from || to) && (!from || last >= from) && (!to || first <= to);
    node.setAttribute("aria-pressed", inside);
  });
}

function bar({ first, last, rows }, most) {
  const whole = first.endsWith("-01-01") && last.endsWith("-12-31");
  const month = () => new Intl.DateTimeFormat(language, { year: "numeric", month: "short", timeZone: "UTC" }).format(new Date(first));
  const name = whole ? first.slice(0, 4) : month();
  const pick = (event) => {
    const pressed = event.currentTarget.getAttribute("aria-pressed") === "true";
    const alone = document.querySelectorAll("#ruler [aria-pressed=true]").length === 1;
    if (event.shiftKey && ($("from").value || $("to").value)) {
      const ends = [$("from").value || first, $("to").value || last, first, last].sort();
      return change({ from: ends[0], to: ends[3] });
    }
    return change(pressed && alone ? { from: "", to: "" } : { from: first, to: last });
  };
  const node = make("button", { type: "button", onclick: pick, disabled: !rows }, make("i"), make("span", { "aria-hidden": "true" }, name));
  node.style.setProperty("--rows", rows ? Math.max(0.06, rows / most) : 0);
  return label(node, "period", { name, n: rows });
}
