// Pictures of the index on the page: by address where the server is open, fetched with the key where it is not.

import { call, locked } from "./api.js";

export const original = (id) => `v1/images/${encodeURIComponent(id)}`;
export const thumbnail = (id, size = 320) => `${original(id)}/thumbnail?size=${size}`;

/** What a row is called: a picture by its file, a text by its beginning. */
export const named = ({ type, text, name, path }) => (type === "text" && text ? [...text].slice(0, 80).join("") : name ?? path);

const coming = new IntersectionObserver(
  (seen) => seen.filter((one) => one.isIntersecting).forEach(({ target }) => fetchInto(target)),
  { rootMargin: "600px" },
);

/** Let an `img` show what stands at `path`, once it comes near the window; it fades in when it is decoded. */
export function show(img, path) {
  img.classList.remove("here");
  img.onload = () => img.decode().catch(() => {}).then(() => img.classList.add("here"));
  if (!locked()) {
    img.src = path;
    return;
  }
  img.dataset.path = path;
  coming.observe(img);
}

/** The address of a picture for links and downloads: one that needs no key. */
export async function address(path) {
  return locked() ? URL.createObjectURL(await call("GET", path)) : path;
}

async function fetchInto(img) {
  coming.unobserve(img);
  try {
    img.src = await address(img.dataset.path);
    img.addEventListener("load", () => URL.revokeObjectURL(img.src), { once: true });
  } catch {
    img.dispatchEvent(new Event("error"));
  }
}
