// What is searched for, and how it stands in the address of the page, so that a link is the whole search.
// A picture of one's own is not in it: the address only says that there was one.

export const NOTHING = Object.freeze({
  text: "", picture: false, like: [], unlike: [], type: "", folder: "", camera: "", from: "", to: "", side: 0, min: 0, sort: "", show: "",
});

const SORTS = ["-date", "date", "name", "-bytes"];

export function read(query) {
  const said = new URLSearchParams(query);
  const list = (name) => (said.get(name) ?? "").split(",").filter(Boolean);
  const date = (name) => (/^\d{4}-\d\d-\d\d$/.test(said.get(name) ?? "") ? said.get(name) : "");
  const count = (name) => Math.max(0, Number(said.get(name)) || 0);
  return {
    text: said.get("q") ?? "", picture: said.has("picture"), like: list("like"), unlike: list("unlike"),
    type: ["image", "text"].find((one) => one === said.get("type")) ?? "", folder: said.get("folder") ?? "", camera: said.get("camera") ?? "", from: date("from"), to: date("to"), side: count("side"),
    min: Math.min(1, count("min")), show: said.get("show") ?? "",
    sort: SORTS.includes(said.get("sort")) ? said.get("sort") : "",
  };
}

export function write(state) {
  const said = new URLSearchParams();
  const put = (name, value) => value && said.set(name, value);
  put("q", state.text);
  put("picture", state.picture ? "1" : "");
  put("like", state.like.join(","));
  put("unlike", state.unlike.join(","));
  for (const name of ["type", "folder", "camera", "from", "to", "side", "min", "sort", "show"]) put(name, state[name]);
  const query = said.toString().replaceAll("%2C", ",");
  return query ? `?${query}` : location.pathname;
}

/** The filters as the service reads them. A text in quotes is written as JSON writes it: the filter language has its escapes. */
export function where({ type, folder, camera, from, to, side }, dated) {
  const parts = [];
  if (type) parts.push(`type == ${quoted(type)}`);
  if (folder) parts.push(`(folder == ${quoted(folder)} or folder startswith ${quoted(`${folder}/`)})`);
  if (camera) parts.push(`camera == ${quoted(camera)}`);
  if (from) parts.push(`${dated} >= "${from}"`);
  if (to) parts.push(`${dated} <= "${to}"`);
  if (side) parts.push(`(width >= ${side} or height >= ${side})`);
  return parts.join(" and ") || undefined;
}

export const filters = ({ type, folder, camera, from, to, side, min }) => [type, folder, camera, from, to, side, min].filter(Boolean).length;

function quoted(words) {
  const escape = (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return `"${words.replace(/[\\"\u0000-\u001f]/g, escape)}"`;
}
