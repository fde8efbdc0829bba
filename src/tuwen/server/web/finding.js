// One search, or one look through the index: its hits so far, and the next ones.

import { where } from "./address.js";
import { call } from "./api.js";

const PAGE = 60;
const KEPT = 12;
const DEEPEST = 10_000; // hits of one search that the service counts up to
const recent = new Map();
const SORTED = 300; // the nearest hits that are put into another order
let dated = "modified"; // the field that dates are compared with

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

/** Compare dates with a field from now on; gives whether it is another one. */
export function date(field) {
  const other = field !== dated;
  dated = field;
  return other;
}

function wished({ text, like, unlike, min, sort, ...rest }, picture) {
  const order = sort.replace("date", dated);
  if (!text && !picture && !like.length) return { where: where(rest, dated), order };
  return {
    text: text || undefined, image: picture?.data, like: some(like), unlike: some(unlike),
    min_score: min || undefined, where: where(rest, dated), order,
  };
}

const some = (list) => (list.length ? list : undefined);

/** Hits by a field of their payload; those without it come last. */
function ordered(hits, order) {
  const way = order.startsWith("-") ? -1 : 1;
  const value = ({ payload }) => payload[order.replace("-", "")];
  const compare = (a, b) => (a < b ? -way : a > b ? way : 0);
  return hits.toSorted((a, b) => (value(a) === undefined) - (value(b) === undefined) || compare(value(a), value(b)));
}

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
    let found = this.searches ? await this.#search(offset, signal) : await this.#browse(offset, signal);
    if (offset !== this.hits.length) return []; // somebody else was faster
    const sorted = this.searches && this.wish.order;
    if (sorted) found = ordered(found, this.wish.order);
    this.hits.push(...found);
    this.done = sorted || found.length < PAGE || (this.searches && this.hits.length >= DEEPEST);
    return found;
  }

  async #search(offset, signal) {
    const { order, ...wish } = this.wish;
    return (await call("POST", "v1/search", { ...wish, k: order ? SORTED : PAGE, offset }, signal)).hits;
  }

  async #browse(offset, signal) {
    const asked = new URLSearchParams({ offset, k: PAGE });
    if (this.wish.order) asked.set("sort", this.wish.order);
    if (this.wish.where) asked.set("where", this.wish.where);
    const { total, rows } = await call("GET", `v1/images?${asked}`, undefined, signal);
    this.total = total;
    return rows;
  }
}
