// Elements from data. Text is only ever set as text: nothing here turns a string into markup.

const SVG = "http://www.w3.org/2000/svg";

function make(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") {
      node[`on${name}`] = value;
      (node.handlers ??= []).push(`on${name}`);
    } else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const h = (tag, props, ...children) => make(document.createElement(tag), props, children);
export const svg = (tag, props, ...children) => make(document.createElementNS(SVG, tag), props, children);

const keyOf = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null);
const alike = (a, b) => a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

// Make `old` look like `fresh` and keep what the two share, so that focus, selection and scrolling stay.
export function morph(old, fresh) {
  if (!alike(old, fresh)) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.hasAttribute("data-own")) return; // it looks after itself
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const name of old.handlers ?? []) old[name] = null;
  for (const name of fresh.handlers ?? []) old[name] = fresh[name];
  old.handlers = fresh.handlers;
  morphChildren(old, [...fresh.childNodes]);
}

export function morphChildren(parent, wanted) {
  const keyed = new Map([...parent.childNodes].map((node) => [keyOf(node), node]));
  let at = parent.firstChild;
  for (const fresh of wanted) {
    const key = keyOf(fresh);
    const same = key !== null ? keyed.get(key) : at && alike(at, fresh) ? at : null;
    if (!same || same.nodeName !== fresh.nodeName) {
      parent.insertBefore(fresh, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else parent.insertBefore(same, at);
    morph(same, fresh);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
