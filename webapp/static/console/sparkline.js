// A small plot of one or two lists of numbers, as wide as its place.

import { svgElement } from "./dom.js";

const HEIGHT = 24;

/** Draw lists of numbers into an `svg`; null is a gap. `top` is what the height stands for. */
export function draw(svg, lists, top) {
  const length = Math.max(2, lists[0].length);
  const highest = top || Math.max(...lists.flat(), 0) || 1;
  svg.classList.toggle("zero", !lists.flat().some((value) => value > 0));
  svg.setAttribute("viewBox", `0 0 ${length - 1} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const y = (value) =>
    (HEIGHT - 1 - (Math.min(value, highest) / highest) * (HEIGHT - 2)).toFixed(1);
  const paths = lists.flatMap((list, index) => {
    const parts = runs(list);
    const line = parts.map((run) => `M${run.map(([x, value]) => `${x} ${y(value)}`).join("L")}`);
    const area = parts.map(
      (run, part) => `${line[part]}L${run.at(-1)[0]} ${HEIGHT}L${run[0][0]} ${HEIGHT}Z`,
    );
    const made = [svgElement("path", { class: `line line-${index}`, d: line.join("") })];
    return index ? made : [svgElement("path", { class: "area", d: area.join("") }), ...made];
  });
  svg.replaceChildren(...paths);
}

/** Return the parts of a list between its gaps, as points with their index. A lone point gets a length. */
function runs(list) {
  const found = [[]];
  list.forEach((value, x) => {
    if (value !== null && value !== undefined) found.at(-1).push([x, value]);
    else if (found.at(-1).length) found.push([]);
  });
  return found
    .filter((run) => run.length)
    .map((run) => (run.length > 1 ? run : [run[0], [run[0][0] + 0.5, run[0][1]]]));
}
