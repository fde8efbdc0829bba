// One picture, large: its facts, what can be done with it, and the pictures before and after it.

import { about } from "./classify.js";
import { $, make } from "./dom.js";
import { address, original, show, thumbnail } from "./pictures.js";
import { day, language, number, say, size } from "./words.js";

const viewer = $("viewer");
let calls = {};
let shown = null;

/** `step(by)`, `steer(how)`, `remove()`, `left()`: what a person does here. */
export function start(given) {
  calls = given;
  $("before").onclick = () => calls.step(-1);
  $("after").onclick = () => calls.step(1);
  $("close").onclick = () => viewer.close();
  $("like").onclick = () => calls.steer("like");
  $("unlike").onclick = () => calls.steer("unlike");
  $("remove").onclick = () => sure(true);
  $("no").onclick = () => sure(false);
  $("yes").onclick = () => calls.remove();
  viewer.addEventListener("close", () => {
    shown = null;
    $("large").removeAttribute("src");
    calls.left();
  });
  viewer.addEventListener("click", (event) => event.target === viewer && viewer.close());
  viewer.addEventListener("keydown", keys);
}

export const open = () => viewer.open;
export const close = () => viewer.open && viewer.close();

/** Show a hit of the index. `around` says whether there is one before and one after it. */
export function look(hit, { around = [false, false], steers = null, mayRemove = false }) {
  const fresh = shown !== hit.id;
  const { type, name, path, text } = hit.payload;
  reveal(type === "text" ? path : name ?? path, around);
  written(type === "text" ? text : null);
  for (const how of ["like", "unlike"]) $(how).setAttribute("aria-pressed", steers === how);
  $("removing").hidden = !mayRemove;
  $("acts").hidden = false;
  if (!fresh) return;
  shown = hit.id;
  sure(false, false);
  about({ id: hit.id });
  facts(hit);
  if (type !== "text") large(hit);
}

/** Show a picture of one's own. */
export function lookAtOwn({ name, data }) {
  reveal(name, [false, false]);
  written(null);
  shown = null;
  $("acts").hidden = $("removing").hidden = true;
  $("facts").replaceChildren();
  about({ image: data });
  $("large").className = "here";
  $("large").removeAttribute("width");
  $("large").removeAttribute("height");
  $("large").onerror = null;
  $("large").src = data;
}

function reveal(name, [before, after]) {
  if (name) delete $("name").dataset.t;
  if (name) $("name").textContent = name;
  else say($("name"), "your-picture");
  $("large").alt = $("name").textContent;
  for (const [id, there] of [["before", before], ["after", after]]) $(id).hidden = !there;
  if (!viewer.open) {
    viewer.showModal();
    $("close").focus();
  }
}

/** A text in place of a picture; null: a picture. */
function written(text) {
  const is = text !== null;
  $("said").hidden = !is;
  $("said").textContent = text ?? "";
  $("large").hidden = $("original").hidden = $("save").hidden = $("classify").hidden = is;
  if (is) $("large").removeAttribute("src");
}

/** First the small one, which is here already, then the whole one; where the browser cannot read it, a large thumbnail. */
async function large({ id, payload }) {
  const img = $("large");
  const { width = 320, height = 320 } = payload;
  img.width = width;
  img.height = height;
  img.onerror = () => {
    img.onerror = null;
    show(img, thumbnail(id, 1280));
  };
  show(img, thumbnail(id));
  for (const name of ["original", "save"]) $(name).href = original(id);
  $("save").download = payload.name ?? "";
  const whole = await address(original(id)).catch(() => null);
  if (shown !== id || !whole) return;
  for (const name of ["original", "save"]) $(name).href = whole;
  preload(whole).then(() => shown === id && (img.src = whole), () => img.onerror?.());
}

function preload(path) {
  const img = new Image();
  img.src = path;
  return img.decode();
}

function facts({ score, payload }) {
  const { folder, path, width, height, bytes, format, modified, title, author, licence, source } = payload;
  const { taken, taken_from: says, camera, lens, keywords, rating } = payload;
  const dated = says === "file" ? modified : taken ?? modified;
  const rows = [
    ["score", score === undefined ? null : score.toFixed(3)],
    ["where", folder || path],
    ["pixels", width ? `${number(width)} × ${number(height)}` : null],
    ["bytes", bytes ? [format, size(bytes)].filter(Boolean).join(", ") : null],
    [dated === modified ? "modified" : "taken", dated ? day(dated) : null],
    ["camera", camera],
    ["lens", lens],
    ["exposure", exposure(payload)],
    ["place", place(payload)],
    ["keywords", keywords],
    ["rating", rating > 0 ? "★".repeat(Math.round(rating)) : null],
    ["title", title],
    ["author", author],
    ["licence", licence],
    ["source", link(source)],
    ["text", payload.type === "text" ? null : payload.text],
  ];
  const row = ([key, value]) => make("div", {}, say(make("dt"), key), make("dd", { dir: "auto" }, value));
  $("facts").replaceChildren(...rows.filter(([, value]) => value).map(row));
  $("facts").lang = language;
}

/** An address as a link; anything else as it is. */
function link(source) {
  if (typeof source !== "string" || !/^https?:\/\//.test(source)) return source;
  return make("a", { href: source, target: "_blank", rel: "noopener noreferrer" }, new URL(source).host);
}

function exposure({ focal_length: length, iso }) {
  return [length ? `${number(length)} mm` : "", iso ? `ISO ${iso}` : ""].filter(Boolean).join(", ");
}

function place({ latitude, longitude }) {
  if (latitude === undefined || longitude === undefined) return "";
  const sides = [latitude < 0 ? "S" : "N", longitude < 0 ? "W" : "E"];
  return [latitude, longitude].map((angle, axis) => `${Math.abs(angle).toFixed(4)}° ${sides[axis]}`).join(", ");
}

function sure(asked, moves = true) {
  $("sure").hidden = !asked;
  $("remove").hidden = asked;
  if (moves) $(asked ? "no" : "remove").focus();
}

function keys(event) {
  if (event.target.matches("input, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  calls.step(by);
}
