// One search or one look through the index: its hits so far, and the next ones. Knows nothing of the page.

import { where } from "./address.js";
import { call } from "./api.js";

const PAGE = 60;
const KEPT = 12;
const DEEPEST = 10_000; // hits of one search that the service counts up to
const recent = new Map();

/** What is wanted, as a value: the same wish gives the same finding for as long as it is remembered. */
export function finding(state, picture) {
  const wish = wished(state, picture);
  const name = JSON.stringify({ ...wish, image: picture?.number });
  const known = recent.get(name) ?? new Finding(name, wish);
  recent.delete(name);
  recent.set(name, known);
  if (recent.size > KEPT) recent.delete(recent.keys().next().value);
  return known;
}

/** The index has changed: what was found may not be true any more. */
export const forget = () => recent.clear();

function wished({ text, like, unlike, min, ...rest }, picture) {
  if (!text && !picture && !like.length) return { where: where(rest) };
  return {
    text: text || undefined, image: picture?.data, like: some(like), unlike: some(unlike),
    min_score: min || undefined, where: where(rest),
  };
}

const some = (list) => (list.length ? list : undefined);

class Finding {
  constructor(name, wish) {
    Object.assign(this, { name, wish, hits: [], done: false, total: null, scroll: 0 });
  }

  /** Whether something is looked for; if not, the index is looked through. */
  get searches() {
    return Boolean(this.wish.text || this.wish.image || this.wish.like);
  }

  /** Fetch the next hits and give them. */
  async more(signal) {
    const offset = this.hits.length;
    const found = this.searches ? await this.#search(offset, signal) : await this.#browse(offset, signal);
    if (offset !== this.hits.length) return []; // somebody else was faster
    this.hits.push(...found);
    this.done = found.length < PAGE || (this.searches && this.hits.length >= DEEPEST);
    return found;
  }

  async #search(offset, signal) {
    return (await call("POST", "v1/search", { ...this.wish, k: PAGE, offset }, signal)).hits;
  }

  async #browse(offset, signal) {
    const asked = new URLSearchParams({ offset, k: PAGE });
    if (this.wish.where) asked.set("where", this.wish.where);
    const { total, rows } = await call("GET", `v1/images?${asked}`, undefined, signal);
    this.total = total;
    return rows;
  }
}
