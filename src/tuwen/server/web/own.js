// A picture of one's own to search with: chosen, pasted or dropped; a chip in the search box that can be taken out.
// It stays in this tab: the address does not hold it, only the history of the tab knows its number.

import { $, icon, make } from "./dom.js";
import { label } from "./words.js";

const LARGEST = 1_500_000; // bytes; a larger one is made smaller before it is sent, where this browser can read it
const SIDE = 1024;
const chip = $("chip");
const kept = [];

/** The picture with a number, if this tab still has it. */
export const numbered = (number) => kept[number];

/** Take in a file: `{ number, name, data }`, data as a data URL. */
export async function taken(file) {
  const data = await url(file.size > LARGEST ? await smaller(file) : file);
  const picture = { number: kept.length, name: file.name, data };
  kept.push(picture);
  return picture;
}

export const pictures = (files) => [...files].filter(isPicture);

// Some systems do not know the type of some pictures; the service looks inside in any case.
const isPicture = ({ type, name }) => type.startsWith("image/") || (!type && /\.(hei[cf]|avif|jp2|tiff?|webp|qoi)$/i.test(name));

/** Show the chip of a picture, or none. */
export function showChip(picture, { look, drop }) {
  chip.hidden = !picture;
  if (!picture) return chip.replaceChildren();
  const name = picture.name || "…";
  const img = make("img", { src: picture.data, alt: "" });
  img.onerror = () => img.replaceWith(icon("picture"));
  const open = label(make("button", { type: "button", class: "look", onclick: look }, img), "look-at", { name });
  const out = label(make("button", { type: "button", class: "out", onclick: drop }, icon("close")), "drop-picture");
  return chip.replaceChildren(open, out);
}

function url(blob) {
  return new Promise((give, fail) => {
    const reader = new FileReader();
    reader.onload = () => give(reader.result);
    reader.onerror = () => fail(reader.error);
    reader.readAsDataURL(blob);
  });
}

async function smaller(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = make("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
    const paper = canvas.getContext("2d");
    paper.fillStyle = "#fff";
    paper.fillRect(0, 0, canvas.width, canvas.height);
    paper.imageSmoothingQuality = "high";
    paper.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return await new Promise((give) => canvas.toBlob(give, "image/jpeg", 0.92));
  } catch {
    return file; // this browser cannot read it; the service may
  }
}
