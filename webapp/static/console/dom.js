// Elements with attributes and children. Strings become text nodes, so markup in them stays text.

const SVG = "http://www.w3.org/2000/svg";

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== undefined && value !== false)
      made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined));
  return made;
}

export const element = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

export const svgElement = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

/** Return the `dt` and `dd` of each pair whose value is neither undefined, null nor empty. */
export const definitions = (pairs) =>
  pairs
    .filter(([, value]) => value !== undefined && value !== null && value !== "")
    .map(([name, value]) => [element("dt", {}, name), element("dd", {}, ...[value].flat())])
    .flat();

/** Set a text, but only another one: screen readers would read the same text again. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const isTyping = ({ target }) => target.closest("input, textarea, select, [contenteditable]");

/** Call `act` at a key that is pressed alone, while nobody types and no dialog is open. */
export function onKey(key, act) {
  document.addEventListener("keydown", (event) => {
    if (event.key !== key || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event) || document.querySelector("dialog[open]")) return;
    if (act(event) !== false) event.preventDefault();
  });
}
