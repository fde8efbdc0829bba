// What a picture shows: labels that a person types in, or the classes of an adapter, as bars, best first.

import { call } from "./api.js";
import { $, make } from "./dom.js";
import { language, text } from "./words.js";

let asked = null;

/** Classify from now on what `subject` names: `{ id }` of the index, or `{ image }`, a data URL. */
export function about(subject) {
  asked = subject;
  $("bars").hidden = $("unclassified").hidden = true;
  $("bars").replaceChildren();
}

/** Let people choose among the adapters that the service serves. */
export function offer(adapters) {
  $("learnt").hidden = !adapters.length;
  const chosen = $("adapter").value;
  $("adapter").replaceChildren($("adapter").options[0], ...adapters.map(({ name }) => make("option", { value: name }, name)));
  $("adapter").value = adapters.some(({ name }) => name === chosen) ? chosen : "";
  choose();
}

function choose() {
  const typed = !$("adapter").value;
  $("labels-name").hidden = $("labels").hidden = $("several-name").hidden = !typed;
  $("labels").required = typed;
}

$("adapter").addEventListener("change", choose);

$("classify").addEventListener("submit", async (event) => {
  event.preventDefault();
  const labels = [...new Set($("labels").value.split(/[,，、;；\n]/).map((one) => one.trim()).filter(Boolean))];
  const adapter = $("adapter").value;
  if (!labels.length && !adapter) return;
  const subject = asked;
  const how = adapter ? { adapter } : { labels, multi_label: $("several").checked };
  $("unclassified").hidden = true;
  try {
    const answer = await call("POST", "v1/classify", { ...subject, ...how });
    if (subject === asked) draw(answer);
  } catch (error) {
    if (subject === asked) refuse(error.message);
  }
});

function draw({ images, rejected }) {
  if (!images.length) return refuse(rejected[0]?.reason ?? "");
  if (images[0].none) refuse(text("none-fits"));
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
