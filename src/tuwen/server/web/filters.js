// The filters: folder, dates, size, and how near a hit must be.

import { filters } from "./address.js";
import { $, kept, make } from "./dom.js";
import * as ruler from "./ruler.js";
import { number, say } from "./words.js";

const SIDES = [256, 512, 1024, 2048, 4096];
const PAUSE = 150; // milliseconds after the slider's last move
let top = 0.5; // the best score seen: the slider's right end

/** `change(patch, replaced)` is called with what a person sets; `replaced` where it is one of many small steps. */
export function start(change) {
  const form = $("filters");
  ruler.start(change);
  for (const name of ["type", "folder", "camera", "sort", "from", "to"]) $(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  $("side").addEventListener("change", (event) => change({ side: Number(event.target.value) }));
  let pause = 0;
  $("min").addEventListener("input", () => {
    const min = Number((($("min").value / 100) * top).toFixed(3));
    showLeast(min);
    clearTimeout(pause);
    pause = setTimeout(() => change({ min }, true), PAUSE);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    change({ type: "", folder: "", camera: "", from: "", to: "", side: 0, min: 0, sort: "" });
  });
  $("filtering").addEventListener("click", () => fold(!form.hidden));
  fold(kept.get("filters") !== "open");
}

function fold(away) {
  $("filters").hidden = away;
  $("filtering").setAttribute("aria-expanded", !away);
  kept.set("filters", away ? "" : "open");
}

/** What there is to choose from, as the index says. */
export function offer({ types, rows, folders, cameras, dates, width }) {
  $("types").hidden = !types.text || types.text === rows;
  const all = say(make("option", { value: "" }), "all-folders");
  $("folder").replaceChildren(all, ...folders.map(({ name, rows }) => make("option", { value: name }, `${name || "/"}  (${number(rows)})`)));
  $("cameras").hidden = !cameras.length;
  const any = say(make("option", { value: "" }), "all-cameras");
  $("camera").replaceChildren(any, ...cameras.map(({ name, rows }) => make("option", { value: name }, `${name}  (${number(rows)})`)));
  for (const name of ["from", "to"]) [$(name).min, $(name).max] = [dates?.periods[0]?.first ?? "", dates?.periods.at(-1)?.last ?? ""];
  ruler.draw(dates);
  const fitting = SIDES.filter((side) => side <= (width?.[1] ?? 0));
  $("side").replaceChildren(say(make("option", { value: "0" }), "any-size"), ...fitting.map((n) => say(make("option", { value: n }), "side-of", { n })));
}

/** Let the controls show a state; without anything to be near to, nearness is not asked for. */
export function showFilters(state, searches) {
  ruler.show(state);
  for (const name of ["type", "folder", "camera", "side", "sort"]) choose($(name), String(state[name] || (name === "side" ? 0 : "")));
  $("from").value = state.from;
  $("to").value = state.to;
  $("min").disabled = !searches;
  top = Math.max(top, state.min);
  $("min").value = (state.min / top) * 100;
  showLeast(state.min);
  const n = filters(state);
  $("filtered").hidden = !n;
  $("filtered").textContent = number(n);
}

/** The scores of another search have another range: the slider covers it. */
export function range(best, min) {
  top = Math.max(0.05, best, min);
  $("min").value = (min / top) * 100;
}

function showLeast(min) {
  if (min) delete $("least").dataset.t;
  if (min) $("least").textContent = number(min);
  else say($("least"), "any-score");
}

/** A link may name what is not on offer: it stands in the list all the same, so that it can be seen and taken back. */
function choose(select, value) {
  if (![...select.options].some((one) => one.value === value)) select.append(make("option", { value }, value));
  select.value = value;
}
