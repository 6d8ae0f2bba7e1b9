// A plot of the last two minutes, which moves to the left while it waits for the next point.

const SPAN_S = 120;
const NS = "http://www.w3.org/2000/svg";
const TOP = 18; // pixels, for the label of the top line
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");

function element(parent, name, attributes = {}) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

/** Return the least of 2, 4, 10, 20, 40, … that is not below `value`. Half of it is a whole number. */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [2, 4, 10].find((factor) => factor * power >= value) * power;
}

/**
 * Return a function that adds a point: a time in seconds, and a value, null if it is unknown.
 *
 * The value under the pointer is shown in the figure's caption.
 */
export function plot(figure, format) {
  const svg = figure.querySelector("svg");
  const shown = figure.querySelector(".value");
  const pointed = figure.querySelector(".pointed");
  const clip = `clip-${figure.id}`;
  const frame = element(element(svg, "clipPath", { id: clip }), "rect", { y: 0 });
  const lines = [0, 0.5, 1].map(() => element(svg, "line", { class: "grid", x1: 0 }));
  const moving = element(element(svg, "g", { "clip-path": `url(#${clip})` }), "g");
  const area = element(moving, "path", { class: "area" });
  const line = element(moving, "path", { class: "line" });
  const labels = lines.slice(1).map(() => element(svg, "text", { class: "halo", x: 18 }));
  const dot = element(svg, "circle", { class: "dot", r: 4.5, visibility: "hidden" });
  const cross = element(svg, "line", { class: "cross", visibility: "hidden", y1: TOP });
  const points = [];
  let geometry;

  function draw() {
    const { clientWidth: width, clientHeight: height } = svg;
    if (!width || !points.length) return;
    const known = points.map(([, value]) => value).filter((value) => value !== null);
    const top = ceiling(Math.max(0, ...known));
    const right = width - 18; // the rest is for the dot
    const last = points.at(-1)[0];
    const x = (time) => right - ((last - time) / SPAN_S) * right;
    const y = (value) => height - 1 - (value / top) * (height - TOP - 1);
    geometry = { x, right, last };
    frame.setAttribute("width", right);
    frame.setAttribute("height", height);
    lines.forEach((grid, index) => {
      grid.setAttribute("x2", width);
      for (const end of ["y1", "y2"]) grid.setAttribute(end, Math.round(y((top * index) / 2)) - 0.5);
    });
    labels.forEach((label, index) => {
      label.setAttribute("y", y((top * (index + 1)) / 2) - 4);
      label.textContent = format((top * (index + 1)) / 2);
    });
    let path = "";
    let under = "";
    for (const run of runs()) {
      const drawn = run.map(([time, value]) => `${x(time).toFixed(1)} ${y(value).toFixed(1)}`);
      path += `M${drawn.join("L")}`;
      under += `M${x(run[0][0])} ${height}L${drawn.join("L")}L${x(run.at(-1)[0])} ${height}Z`;
    }
    line.setAttribute("d", path);
    area.setAttribute("d", under);
    slide(x, y, right);
  }

  // The points between two unknown ones are one run of the line.
  function runs() {
    const found = [[]];
    for (const point of points) {
      if (point[1] !== null) found.at(-1).push(point);
      else if (found.at(-1).length) found.push([]);
    }
    return found.filter((run) => run.length);
  }

  // The newest point moves in from the right until the next one comes, and the dot follows it.
  function slide(x, y, right) {
    const [before, now] = points.slice(-2).concat(points.length < 2 ? [points[0]] : []);
    dot.setAttribute("visibility", now[1] === null ? "hidden" : "visible");
    dot.setAttribute("cx", right);
    dot.setAttribute("cy", 0);
    const to = `translateY(${y(now[1] ?? 0)}px)`;
    const slides = !reducedMotion.matches && before[1] !== null && now[1] !== null;
    const timing = { duration: slides ? 1000 : 0, easing: "linear", fill: "forwards" };
    for (const part of [dot, moving]) for (const old of part.getAnimations()) old.cancel();
    dot.animate({ transform: [slides ? `translateY(${y(before[1])}px)` : to, to] }, timing);
    const step = slides ? right - x(before[0]) : 0;
    moving.animate({ transform: [`translateX(${step}px)`, "none"] }, timing);
  }

  function showPointed(event) {
    if (!geometry) return;
    const at = geometry.last - ((geometry.right - event.offsetX) / geometry.right) * SPAN_S;
    const near = points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
    if (near[1] === null) return;
    cross.setAttribute("visibility", "visible");
    for (const end of ["x1", "x2"]) cross.setAttribute(end, geometry.x(near[0]));
    cross.setAttribute("y2", svg.clientHeight);
    pointed.textContent = `${format(near[1])} · ${Math.round(geometry.last - near[0])} s ago`;
  }

  svg.addEventListener("pointermove", showPointed);
  svg.addEventListener("pointerleave", () => {
    cross.setAttribute("visibility", "hidden");
    pointed.textContent = "";
  });
  new ResizeObserver(draw).observe(svg);

  return (time, value) => {
    points.push([time, value]);
    while (points[0][0] < time - SPAN_S - 5) points.shift();
    shown.textContent = value === null ? "–" : format(value);
    const known = points.map((point) => point[1]).filter((value) => value !== null);
    const range = `${format(Math.min(...known))} to ${format(Math.max(...known))}`;
    const title = figure.querySelector("figcaption span").textContent;
    svg.setAttribute("aria-label", `${title} in the last two minutes: ${known.length ? range : ""}`);
    draw();
  };
}
