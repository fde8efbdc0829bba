// Pictures dragged over the page: one zone to search with them, and one to add them where that is allowed.

import { $ } from "./dom.js";

const overlay = $("drop");
const zones = [$("drop-search"), $("drop-add")];

/** `mayAdd()` says whether there is a second zone; `search(files)` and `add(files)` are called with what was dropped. */
export function start({ mayAdd, search, add }) {
  let depth = 0;
  const hide = () => {
    depth = 0;
    overlay.hidden = true;
  };
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (!files(event) || depth++) return;
    zones[1].hidden = !mayAdd();
    overlay.hidden = document.querySelector("dialog[open]") !== null;
  });
  addEventListener("dragleave", (event) => files(event) && --depth <= 0 && hide());
  addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    for (const zone of zones) zone.classList.toggle("over", zone.contains(event.target));
  });
  addEventListener("drop", async (event) => {
    if (!files(event)) return;
    event.preventDefault();
    const adds = !zones[1].hidden && zones[1].contains(event.target);
    const shown = !overlay.hidden;
    hide();
    const dropped = await unfolded(event.dataTransfer);
    if (shown) (adds ? add : search)(dropped);
  });
}

/** The files of a drop; those of a folder too, and of the folders in it. */
async function unfolded(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(below))).flat();
}

async function below(entry) {
  if (entry.isFile) return [await new Promise((give, fail) => entry.file(give, fail))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((give, fail) => reader.readEntries(give, fail));
    if (!some.length) return (await Promise.all(found.map(below))).flat();
    found.push(...some);
  }
}
