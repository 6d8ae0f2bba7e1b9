// The rows of a table that is asked for again and again.

import { element } from "./dom.js";
import { when } from "../units.js";

const textOf = (part) => part.textContent ?? String(part);

/**
 * Fill a table's body with a row for each item. A row with the same key stays, and of its cells those
 * with the same text: so the focus and a selection stay, too.
 */
export function fillRows(body, items, keyOf, cellsOf) {
  const labels = [...body.parentElement.tHead.rows[0].cells].map(textOf);
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  items.forEach((item, index) => {
    const key = keyOf(item);
    const row = old.get(key) ?? element("tr", { role: "row", "data-key": key });
    old.delete(key);
    cellsOf(item).forEach((content, column) =>
      fillCell(row, column, labels[column], [content].flat()),
    );
    if (body.rows[index] !== row) body.insertBefore(row, body.rows[index] ?? null);
  });
  for (const row of old.values()) row.remove();
}

function fillCell(row, column, label, parts) {
  const cell =
    row.cells[column] ?? row.appendChild(element("td", { role: "cell", "data-label": label }));
  const text = parts.map(textOf).join("");
  if (cell.childNodes.length && cell.textContent === text) return;
  cell.replaceChildren(...parts);
  if (!cell.querySelector("button, time")) cell.title = text;
}

/** Return a time as an element; its age is its title while the pointer is over it. */
export const timeElement = (words, time) =>
  element("time", { datetime: new Date(time).toISOString() }, words);

document.addEventListener("mouseover", ({ target }) => {
  if (target.dateTime) target.title = when(Date.parse(target.dateTime));
});
