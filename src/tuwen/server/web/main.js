// The page: one state, which stands in the address; what changes it, and what follows from it.

import { add } from "./adding.js";
import { filters, NOTHING, read, write } from "./address.js";
import { call } from "./api.js";
import * as classifying from "./classify.js";
import { $, kept, make } from "./dom.js";
import * as drop from "./drop.js";
import * as filtering from "./filters.js";
import { date, finding, forget } from "./finding.js";
import * as grid from "./grid.js";
import "./key.js";
import { complain, note } from "./notes.js";
import { numbered, pictures, showChip, taken } from "./own.js";
import * as selection from "./selection.js";
import * as place from "./state.js";
import { showTray } from "./tray.js";
import * as viewer from "./viewer.js";
import { label, language, preferred, say, speak } from "./words.js";

const PATIENCE = 5; // seconds between two tries to reach a server that is away

let state = read(location.search);
let picture = numbered(history.state?.picture);
let index = {};
let current = null;
let going = new AbortController();
let loading = null;
let retry = 0;
const known = new Map();

// What changes the state

/** Change what is searched for: a step in the history, or in place of the last one. */
function change(patch, replaced = false, opened = false) {
  if (current) current.scroll = scrollY;
  state = { ...state, ...patch, picture: Boolean(picture) };
  if ("text" in patch) written();
  history[replaced ? "replaceState" : "pushState"]({ picture: picture?.number, opened }, "", write(state));
  return run();
}

/** Write the state's text into the search box; at no other time, for somebody may be typing there. */
function written() {
  $("words").value = state.text;
}

function steer(id, how) {
  const was = steered(id);
  const without = (list) => list.filter((one) => one !== id);
  const next = { like: without(state.like), unlike: without(state.unlike), show: "" };
  if (was !== how) next[how].push(id);
  return change(next);
}

const steered = (id) => (state.like.includes(id) ? "like" : state.unlike.includes(id) ? "unlike" : null);

async function searchWith(files) {
  const found = pictures(files);
  if (!found.length) return files.length && note("not-a-picture");
  if (found.length > 1) note("one-of-many", { n: found.length });
  picture = await taken(found[0]);
  return change({ text: $("words").value.trim(), show: "" });
}

function withoutPicture() {
  picture = undefined;
  $("words").focus();
  return change({});
}

function addAll(files) {
  const added = () => {
    forget();
    learn();
    run();
  };
  if (files.length) add([...files], { added, open: (id) => change({ show: id }, false, true) });
}

async function remove() {
  const id = state.show;
  const at = current.hits.findIndex((hit) => hit.id === id);
  const next = current.hits[at + 1] ?? current.hits[at - 1];
  try {
    await call("DELETE", `v1/images/${encodeURIComponent(id)}`);
  } catch (error) {
    return complain(error);
  }
  note("removed");
  forget();
  learn();
  const without = (list) => list.filter((one) => one !== id);
  return change({ like: without(state.like), unlike: without(state.unlike), show: next && at >= 0 ? next.id : "" }, true, history.state?.opened);
}

// What follows from it

/** Search for what the state says, if that is not what is shown already. */
async function run(restores = false) {
  clearTimeout(retry);
  controls();
  const next = finding(state, picture);
  if (next === current) return present();
  going.abort();
  going = new AbortController();
  current = next;
  if (!next.hits.length && !next.done && !(await first(next))) return undefined;
  paint(restores);
  return present();
}

async function first(next) {
  busy(true);
  try {
    await next.more(going.signal);
  } catch (error) {
    if (next === current) trouble(error);
    return false;
  }
  return next === current;
}

function busy(is) {
  document.body.classList.toggle("busy", is);
  $("results").setAttribute("aria-busy", is);
  if (!is) return;
  say($("status"), "searching");
  if (!$("grid").children.length) grid.wait();
  place.clear();
}

function paint(restores) {
  const held = $("grid").contains(document.activeElement);
  busy(false);
  place.clear();
  for (const hit of current.hits) known.set(hit.id, hit);
  grid.fill(current.hits, current.done);
  if (!current.hits.length) nothing();
  else if (held) grid.focus(0);
  if (current.searches && !state.min && current.hits.length) filtering.range(current.hits[0].score, state.min);
  tell();
  scrollTo({ top: restores ? current.scroll : 0, behavior: "instant" });
  scrolling.look();
  tray();
}

async function more() {
  const { hits, done } = current ?? { done: true };
  if (done || loading === current || !hits.length) return;
  const from = (loading = current);
  try {
    const found = await from.more(going.signal);
    if (from !== current) return;
    for (const hit of found) known.set(hit.id, hit);
    grid.append(found, from.done);
    tell();
  } catch (error) {
    if (from === current && error.name !== "AbortError") place.tell("error-title", [place.quote(error.message)], [["again", again]]);
    return;
  } finally {
    if (loading === from) loading = null;
  }
  scrolling.look();
}

const again = () => (place.clear(), current?.hits.length ? more() : run());

/** How many there are, in words: read out, too. */
function tell() {
  const { hits, done, total, searches } = current;
  const n = hits.length;
  if (!searches) say($("status"), n < total ? "shown-of" : "browsing", { n, total });
  else say($("status"), state.sort ? "sorted" : done ? "found" : "nearest", { n });
}

function nothing() {
  if (!index.rows && !filters(state) && !current.searches) return empty();
  const without = (patch) => () => change(patch);
  const ways = [];
  if (state.min) ways.push(["no-threshold", without({ min: 0 })]);
  if (filters({ ...state, min: 0 })) ways.push(["no-filters", without({ type: "", folder: "", camera: "", from: "", to: "", side: 0 })]);
  if (state.like.length || state.unlike.length) ways.push(["no-steering", without({ like: [], unlike: [] })]);
  return place.tell("none-title", [place.line("none-why")], [...ways, ["all", all]]);
}

function empty() {
  if (index.write) return place.tell("empty-title", [place.line("empty-add")], [["add", () => $("files").click()]]);
  const how = place.command(`tuwen index add PHOTOS/ --index ${index.index ?? "photos.tuwen"}`);
  return place.tell("empty-title", [place.line("empty-ask"), how], [["again", () => (forget(), learn(), run())]]);
}

function all() {
  picture = undefined;
  change({ ...NOTHING });
}

function trouble(error) {
  current = null;
  busy(false);
  grid.fill([], true);
  say($("status"), "error-title");
  const later = (seconds) => (retry = setTimeout(run, seconds * 1000));
  if (error.code === "offline") {
    later(PATIENCE);
    return place.tell("offline-title", [place.line("offline-why")], [["again", again]]);
  }
  if (error.status === 429 || error.status === 503) {
    const n = error.wait || 2;
    later(n);
    return place.tell("busy-title", [place.line("busy-why", { n })], [["again", again]]);
  }
  const ways = [["again", again]];
  if (picture) ways.unshift(["drop-picture", withoutPicture]);
  return place.tell("error-title", [place.quote(error.message)], [...ways, ["all", all]]);
}

/** Let every control show the state. */
function controls() {
  showChip(picture, { look: () => viewer.lookAtOwn(picture), drop: withoutPicture });
  const searches = Boolean(state.text || picture || state.like.length);
  filtering.showFilters(state, searches);
  document.body.classList.toggle("searches", searches);
  $("scoring").disabled = !searches;
  document.title = [state.text, "tuwen"].filter(Boolean).join(" – ");
  tray();
  about();
}

function tray() {
  const payload = (id) => known.get(id)?.payload;
  const open = (id) => change({ show: id }, false, true);
  showTray({ ...state, picture }, { payload, open, out: (id) => steer(id, steered(id)) });
}

function about() {
  const parts = [];
  if (picture) parts.push(say(make("span"), "not-in-link"));
  if (index.rows !== undefined) parts.push(say(make("span"), "about-index", { n: index.rows }));
  if (index.model) parts.push(say(make("span", { dir: "auto" }), "about-model", { model: index.model }));
  $("about").replaceChildren(...parts, say(make("a", { href: "docs" }), "api"));
}

/** The picture that the state names, in the viewer. */
async function present() {
  const id = state.show;
  if (!id) return viewer.close();
  const at = current.hits.findIndex((hit) => hit.id === id);
  const hit = current.hits[at] ?? known.get(id) ?? (await facts(id));
  if (!hit || state.show !== id) return undefined;
  known.set(id, hit);
  const around = [at > 0, at >= 0 && (at + 1 < current.hits.length || !current.done)];
  return viewer.look(hit, { around, steers: steered(id), mayRemove: Boolean(index.write) });
}

async function facts(id) {
  try {
    return await call("GET", `v1/images/${encodeURIComponent(id)}/facts`);
  } catch (error) {
    if (error.status === 404) note("gone-title");
    else complain(error);
    change({ show: "" }, true);
    return null;
  }
}

async function step(by) {
  const at = current.hits.findIndex((hit) => hit.id === state.show);
  if (at < 0) return;
  if (at + by >= current.hits.length) await more();
  const next = current.hits[at + by];
  if (next) change({ show: next.id }, true, history.state?.opened);
}

/** The viewer was closed: back to where one came from, the focus on the picture that was seen last. */
function left() {
  const at = current?.hits.findIndex((hit) => hit.id === state.show) ?? -1;
  if (!state.show) return;
  if (history.state?.opened) history.back();
  else change({ show: "" }, true);
  if (at >= 0) grid.focus(at);
}

/** What the index holds, and what is allowed. */
async function learn() {
  try {
    index = await call("GET", "v1/index");
  } catch {
    return; // the search says what is wrong
  }
  $("add").hidden = !index.write;
  filtering.offer(index);
  classifying.offer(index.adapters);
  if (date(index.dates?.field ?? "modified") && (state.from || state.to || state.sort)) run();
  controls();
  if (current && !current.hits.length && current.done) nothing();
  if (state.show && viewer.open()) present();
}

// What a person does

const scrolling = grid.start({
  open: (at, { ctrlKey, metaKey, shiftKey }) => {
    if (selection.selecting() || ctrlKey || metaKey || shiftKey) selection.toggle(current.hits, at, shiftKey);
    else change({ show: current.hits[at].id }, false, true);
  },
  toggle: (at) => selection.toggle(current.hits, at),
  selecting: selection.selecting,
  selected: selection.isSelected,
  steer,
  steered,
  more,
});
viewer.start({ step, left, remove, steer: (how) => steer(state.show, how) });
filtering.start(change);
selection.start({
  mark: grid.mark,
  like: (ids) => change({ like: [...new Set([...state.like, ...ids])].slice(0, 100), show: "" }),
});
drop.start({ mayAdd: () => Boolean(index.write), search: searchWith, add: addAll });

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("words").value.trim();
  if (matchMedia("(pointer: coarse)").matches) $("words").blur();
  if (text !== state.text || !current) change({ text, show: "" });
});
$("home").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  all();
});
$("choose").addEventListener("click", () => $("file").click());
$("add").addEventListener("click", () => $("files").click());
for (const [id, take] of [["file", searchWith], ["files", addAll]])
  $(id).addEventListener("change", ({ target }) => {
    take([...target.files]);
    target.value = "";
  });
$("untray").addEventListener("click", () => change({ like: [], unlike: [] }));
$("scoring").addEventListener("click", () => scores(!document.body.classList.contains("scored")));
$("theme").addEventListener("click", () => theme({ "": "light", light: "dark", dark: "" }[kept.get("theme") ?? ""]));
$("language").addEventListener("click", async () => {
  await speak(language === "en" ? "zh" : "en");
  kept.set("language", language);
  learn();
  controls();
});
$("share").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    note(picture ? "shared-bare" : "shared");
  } catch {
    const link = note("share-by-hand", {}, { stays: true }).add(make("input", { readonly: true, value: location.href }));
    label(link, "share");
    link.select();
  }
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea, dialog");
  if (event.key === "?" && !typing) note("keys", {}, { stays: true });
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  $("words").select();
});
addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (!files.length || document.querySelector("dialog[open]")) return;
  event.preventDefault();
  searchWith(files);
});
addEventListener("popstate", () => {
  if (current) current.scroll = scrollY;
  state = read(location.search);
  picture = numbered(history.state?.picture);
  written();
  run(true);
});
addEventListener("online", () => !current && run());
addEventListener("offline", () => current && note("offline-title"));

function scores(on) {
  document.body.classList.toggle("scored", on);
  $("scoring").setAttribute("aria-pressed", on);
  kept.set("scores", on ? "on" : "");
}

function theme(chosen) {
  kept.set("theme", chosen);
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  label($("theme"), `theme-${chosen || "auto"}`);
}

history.scrollRestoration = "manual";
await speak(preferred());
say($("language"), "language");
theme(kept.get("theme") ?? "");
scores(kept.get("scores") === "on");
if (state.picture && !picture) note("picture-gone", {}, { stays: true });
written();
learn();
run();
