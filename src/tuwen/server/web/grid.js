// The grid of pictures: tiles in justified rows, the arrow keys on them, and more of them as one scrolls.

import { $, icon, make } from "./dom.js";
import { named, show, thumbnail } from "./pictures.js";
import { rows, shape } from "./rows.js";
import { label } from "./words.js";

const GAP = 6;
const list = $("grid");
let hits = [];
let ended = true;
let laid = 0;
let actions = {};

/** `open(place, event)`, `steer(id, how)`, `steered(id)`, `toggle(place)`, `selecting()`, `selected(id)`, `more()`: what tiles call. */
export function start(calls) {
  actions = calls;
  list.addEventListener("keydown", walk);
  let width = room();
  new ResizeObserver(() => {
    if (room() !== width) layout(0);
    width = room();
  }).observe(list);
  const near = new IntersectionObserver((seen) => seen[0].isIntersecting && actions.more(), { rootMargin: "1000px" });
  near.observe($("end"));
  return { look: () => (near.unobserve($("end")), near.observe($("end"))) };
}

/** Show hits in place of those before. While there may be more, a last row that is not full waits for them. */
export function fill(all, done) {
  hits = [...all];
  ended = done;
  list.classList.remove("waiting");
  list.replaceChildren(...hits.map(tile));
  layout(0);
}

export function append(more, done) {
  ended = done;
  hits.push(...more);
  list.append(...more.map((hit, place) => tile(hit, hits.length - more.length + place)));
  layout(laid);
}

/** Grey tiles while nothing is known yet. */
export function wait() {
  hits = [];
  const shapes = Array.from({ length: 24 }, (_, place) => ({ width: 3 + ((place * 7) % 4), height: 4 }));
  list.classList.add("waiting");
  list.replaceChildren(...shapes.map(() => make("li", { "aria-hidden": "true" })));
  place(shapes.map(shape), 0, shapes.length);
}

export const focus = (place) => list.children[place]?.firstElementChild?.focus();

/** Let every tile show whether it steers the search. */
export function mark() {
  hits.forEach((hit, place) => {
    const how = actions.steered(hit.id);
    list.children[place].dataset.steers = how ?? "";
    list.children[place].classList.toggle("chosen", actions.selected(hit.id));
    const chosen = actions.selecting() ? actions.selected(hit.id) : null;
    if (chosen === null) list.children[place].firstElementChild.removeAttribute("aria-pressed");
    else list.children[place].firstElementChild.setAttribute("aria-pressed", chosen);
    for (const button of list.children[place].querySelectorAll("[data-how]"))
      button.setAttribute("aria-pressed", button.dataset.how === how);
  });
}

function tile(hit, at) {
  const { payload, id } = hit;
  const name = named(payload);
  const scored = hit.score === undefined ? {} : { score: hit.score.toFixed(3) };
  const open = make("button", { type: "button", class: "tile", onclick: (event) => actions.open(at, event) }, face(hit));
  label(open, hit.score === undefined ? "picture-of" : "picture-scored", { name, ...scored });
  const item = make("li", {}, open, make("span", { class: "check", "aria-hidden": "true" }, icon("select")));
  if (hit.score !== undefined) item.append(make("span", { class: "score", "aria-hidden": "true" }, scored.score));
  item.append(make("div", { class: "quick" }, thumb("like", id, name), thumb("unlike", id, name)));
  return item;
}

function face({ id, payload }) {
  if (payload.type === "text") return make("span", { class: "card", dir: "auto" }, payload.text);
  const img = make("img", { alt: "", loading: "lazy", decoding: "async", draggable: "false" });
  img.onerror = () => img.replaceWith(make("span", { class: "card", dir: "auto" }, payload.name ?? payload.path));
  show(img, thumbnail(id));
  return img;
}

function thumb(how, id, name) {
  const button = make("button", { type: "button", "data-how": how, onclick: () => actions.steer(id, how) }, icon(how));
  button.setAttribute("aria-pressed", actions.steered(id) === how);
  return label(button, how === "like" ? "liked" : "unliked", { name });
}

/** Lay out all tiles from `from` on, which begins a row. */
function layout(from) {
  if (list.classList.contains("waiting")) return;
  place(hits.map(({ payload }) => shape(payload)), from, ended ? hits.length : 0);
}

function place(shapes, from, upTo) {
  const { sizes, full } = rows(shapes.slice(from), room(), high(), GAP);
  laid = from + full;
  sizes.forEach(({ width, height }, at) => {
    const item = list.children[from + at];
    item.style.width = `${width}px`;
    item.style.height = `${height}px`;
    item.hidden = from + at >= Math.max(laid, upTo);
  });
}

const room = () => Math.floor(list.getBoundingClientRect().width);

/** How high a row may be: small on a phone, and small pictures are not blown up. */
function high() {
  const most = room() < 600 ? 132 : room() < 1100 ? 176 : 216;
  const own = hits.slice(0, 60).map(({ payload }) => payload.height ?? most).sort((a, b) => a - b);
  return Math.min(most, Math.max(104, own[own.length >> 1] ?? most));
}

/** The arrow keys go from tile to tile; up and down to the tile that lies nearest in the next row. */
function walk(event) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  const item = event.target.closest("li");
  const items = [...list.children].filter((one) => !one.hidden);
  const at = items.indexOf(item);
  let to = null;
  if (event.key in steps) to = items[Math.min(items.length - 1, Math.max(0, at + steps[event.key]))];
  if (event.key === "x" && at >= 0 && !event.ctrlKey && !event.metaKey) actions.toggle([...list.children].indexOf(item));
  if (event.key === "ArrowDown") to = beyond(items.slice(at + 1), item, 1);
  if (event.key === "ArrowUp") to = beyond(items.slice(0, at).reverse(), item, -1);
  if (!to) return;
  event.preventDefault();
  to.firstElementChild.focus();
}

function beyond(items, { offsetTop, offsetLeft, offsetWidth }, way) {
  const row = items.find((one) => (one.offsetTop - offsetTop) * way > 0)?.offsetTop;
  const middle = offsetLeft + offsetWidth / 2;
  const far = (one) => Math.abs(one.offsetLeft + one.offsetWidth / 2 - middle);
  return items.filter((one) => one.offsetTop === row).sort((a, b) => far(a) - far(b))[0];
}
