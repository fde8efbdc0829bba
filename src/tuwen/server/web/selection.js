// Several pictures chosen at once: as one zip file, as a list of paths, or as examples for a search.

import { call } from "./api.js";
import { $, make } from "./dom.js";
import { complain, note } from "./notes.js";
import { label, say } from "./words.js";

const MOST = 1000; // rows of one download
const chosen = new Map(); // id to payload, in the order in which they were chosen
let last = -1;
let changed = () => {};

/** `mark()` is called when the selection has changed, `like(ids)` to search with it. */
export function start({ mark, like }) {
  changed = mark;
  $("selecting").addEventListener("click", () => select(!selecting()));
  $("unselect").addEventListener("click", () => select(false));
  $("download").addEventListener("click", download);
  $("copy").addEventListener("click", copy);
  $("steer-selected").addEventListener("click", () => {
    const ids = [...chosen.keys()];
    select(false);
    like(ids);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && selecting() && !document.querySelector("dialog[open]")) select(false);
  });
}

export const selecting = () => document.body.classList.contains("selecting");
export const isSelected = (id) => chosen.has(id);

/** Turn selecting on or off; off forgets what was chosen. */
function select(on) {
  document.body.classList.toggle("selecting", on);
  $("selecting").setAttribute("aria-pressed", on);
  if (!on) chosen.clear();
  last = -1;
  tell();
}

/** Choose a hit, or no longer; with `range`, all between it and the one before. */
export function toggle(hits, at, range = false) {
  if (!selecting()) select(true);
  const on = !chosen.has(hits[at].id);
  const from = range && last >= 0 ? Math.min(last, at) : at;
  const to = range && last >= 0 ? Math.max(last, at) : at;
  for (const { id, payload } of hits.slice(from, to + 1)) {
    if (on || range) chosen.set(id, payload);
    else chosen.delete(id);
  }
  last = at;
  tell();
}

function tell() {
  $("selection").hidden = !selecting();
  say($("selected"), "selected", { n: chosen.size });
  for (const id of ["download", "copy", "steer-selected"]) $(id).disabled = !chosen.size;
  changed();
}

async function download() {
  const ids = [...chosen.keys()].slice(0, MOST);
  if (chosen.size > MOST) note("most-selected", { n: MOST });
  const working = note("packing", { n: ids.length }, { stays: true });
  try {
    const url = URL.createObjectURL(await call("POST", "v1/download", { ids }));
    make("a", { href: url, download: "images.zip" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    complain(error);
  }
  working.close();
}

async function copy() {
  const paths = [...chosen.values()].map(({ path }) => path).join("\n");
  try {
    await navigator.clipboard.writeText(paths);
    note("copied", { n: chosen.size });
  } catch {
    const box = note("copy-by-hand", {}, { stays: true }).add(make("textarea", { readonly: true, rows: 6 }));
    box.value = paths;
    label(box, "copy");
    box.select();
  }
}
