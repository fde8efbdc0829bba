// What a picture shows: labels that a person types in, as bars, best first.

import { call } from "./api.js";
import { $, make } from "./dom.js";
import { language } from "./words.js";

let asked = null;

/** Classify from now on what `subject` names: `{ id }` of the index, or `{ image }`, a data URL. */
export function about(subject) {
  asked = subject;
  $("bars").hidden = $("unclassified").hidden = true;
  $("bars").replaceChildren();
}

$("classify").addEventListener("submit", async (event) => {
  event.preventDefault();
  const labels = [...new Set($("labels").value.split(/[,，、;；\n]/).map((one) => one.trim()).filter(Boolean))];
  if (!labels.length) return;
  const subject = asked;
  $("unclassified").hidden = true;
  try {
    const answer = await call("POST", "v1/classify", { ...subject, labels, multi_label: $("several").checked });
    if (subject === asked) draw(answer);
  } catch (error) {
    if (subject === asked) refuse(error.message);
  }
});

function draw({ images, rejected }) {
  if (!images.length) return refuse(rejected[0]?.reason ?? "");
  $("bars").hidden = false;
  return $("bars").replaceChildren(...images[0].labels.map(bar));
}

function bar({ label, probability }) {
  const share = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(probability);
  const item = make("li", {}, make("span", { dir: "auto" }, label), make("b", {}, share));
  item.style.setProperty("--share", probability);
  return item;
}

function refuse(reason) {
  $("bars").hidden = true;
  $("unclassified").hidden = false;
  $("unclassified").textContent = reason;
}
