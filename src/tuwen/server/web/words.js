// What the page says, in the language of whoever reads it. An element remembers what it says, so that it can say it
// in another language.

import { kept } from "./dom.js";

const LANGUAGES = { en: () => import("./words.en.js"), zh: () => import("./words.zh.js") };

let words = {};
export let language = "en";

export function preferred() {
  const asked = [kept.get("language"), ...navigator.languages].filter(Boolean);
  return asked.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES) ?? "en";
}

/** Switch the page, and every element that says something, to a language. */
export async function speak(tag) {
  words = (await LANGUAGES[tag]()).default;
  language = tag;
  document.documentElement.lang = tag === "zh" ? "zh-Hans" : tag;
  for (const node of document.querySelectorAll("[data-t],[data-label],[data-placeholder]")) refresh(node);
}

/** One text; `{name}` in it is replaced by an argument, a number in the reader's own way. */
export function text(key, args = {}) {
  let found = words[key] ?? key;
  if (typeof found === "object") found = found[new Intl.PluralRules(language).select(args.n)] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (_, name) => number(args[name]));
}

/** Let an element say a text, now and after the language has changed. */
export function say(node, key, args) {
  node.dataset.t = key;
  node.dataset.args = JSON.stringify(args ?? {});
  refresh(node);
  return node;
}

/** The same for the name of a control that shows a picture alone. */
export function label(node, key, args) {
  node.dataset.label = key;
  node.dataset.args = JSON.stringify(args ?? {});
  refresh(node);
  return node;
}

export function number(value) {
  return typeof value === "number" ? new Intl.NumberFormat(language, { maximumFractionDigits: 2 }).format(value) : value;
}

export function day(seconds) {
  return new Intl.DateTimeFormat(language, { dateStyle: "medium" }).format(seconds * 1000);
}

export function size(bytes) {
  const [unit, by] = bytes < 1e6 ? ["kilobyte", 1e3] : ["megabyte", 1e6];
  const style = { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(language, style).format(bytes / by);
}

function refresh(node) {
  const { t, label: named, placeholder, args } = node.dataset;
  const values = args ? JSON.parse(args) : {};
  if (t) node.textContent = text(t, values);
  if (named) {
    node.setAttribute("aria-label", text(named, values));
    if (node.matches("button, a")) node.title = text(named, values);
  }
  if (placeholder) node.placeholder = text(placeholder, values);
}
