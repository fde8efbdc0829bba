// Elements: found, made, filled. Texts go in as text: no string is ever read as HTML.

export const $ = (id) => document.getElementById(id);

/** `make("button", { class: "x", onclick: f }, "text", node)`; an attribute that is false, null or undefined is left out. */
export function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = svg.appendChild(document.createElementNS(space, "use"));
  use.setAttribute("href", `#i-${name}`);
  return svg;
}

/** What this browser remembers between visits; nothing, where it may not. */
export const kept = {
  get: (name) => {
    try {
      return localStorage.getItem(`tuwen.${name}`);
    } catch {
      return null;
    }
  },
  set: (name, value) => {
    try {
      if (value) localStorage.setItem(`tuwen.${name}`, value);
      else localStorage.removeItem(`tuwen.${name}`);
    } catch {
      // The choice holds until the page is left.
    }
  },
};
