// Small plots: lines over time, as SVG. With the pointer or the arrow keys one reads the values of one moment.

import { h, svg } from "./dom.js";
import { clock } from "./words.js";

const WIDTH = 480;
const HEIGHT = 132;
const LEFT = 52;
const BOTTOM = 20;
const TOP = 8;

// Points of one function, or of several together, as one array for each line; a step without a point is zero.
export function columns(series, step, keep, now) {
  const last = Math.floor(now / step) - 1;
  const first = last - keep + 1;
  const zero = () => new Array(keep).fill(0);
  const found = { times: Array.from({ length: keep }, (_, i) => (first + i) * step), waiting: zero(), running: zero() };
  Object.assign(found, { workers: zero(), ended: zero(), failed: zero(), p50: zero(), p99: zero() });
  for (const points of series) {
    for (const [number, waiting, running, workers, ended, failed, p50, p99] of points) {
      const at = number - first;
      if (at < 0 || at >= keep) continue;
      found.waiting[at] += waiting;
      found.running[at] += running;
      found.workers[at] += workers;
      found.ended[at] += ended;
      found.failed[at] += failed;
      found.p50[at] = Math.max(found.p50[at], p50);
      found.p99[at] = Math.max(found.p99[at], p99);
    }
  }
  for (const name of ["p50", "p99"]) found[name] = found[name].map((value, i) => (found.ended[i] ? value : null));
  return found;
}

function ceiling(most) {
  if (!(most > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return unit * [1, 2, 4, 5, 10].find((factor) => factor * unit >= most * 0.999);
}

const chosen = new Map(); // title -> index of the moment that is read

// lines: [{ name, kind, values }]; `form` turns a value into text; `whole`: values are counts.
export function plot({ title, times, lines, form, whole, redraw }) {
  const most = Math.max(0, ...lines.flatMap((line) => line.values.filter((value) => value !== null)));
  const top = whole ? Math.max(2, ceiling(most)) : ceiling(most);
  const x = (i) => LEFT + ((WIDTH - LEFT - 4) * i) / Math.max(1, times.length - 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
  const at = chosen.get(title) ?? null;
  const read = at ?? times.length - 1;
  const latest = (line) => (at === null ? line.values.filter((value) => value !== null).at(-1) : line.values[read]);
  const value = (line) => ((latest(line) ?? null) === null ? "none" : form(latest(line)));
  const move = (to) => {
    chosen.set(title, to === null ? null : Math.min(times.length - 1, Math.max(0, to)));
    redraw();
  };
  const onMove = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const inside = ((event.clientX - box.left) * WIDTH) / box.width - LEFT;
    move(Math.round((inside / (WIDTH - LEFT - 4)) * (times.length - 1)));
  };
  const onKey = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
    if (event.key === "Escape") move(null);
    if (!by) return;
    event.preventDefault();
    move(read + by);
  };
  const legend = h(
    "figcaption",
    null,
    h("span", { class: "title" }, title),
    h("span", { class: "quiet" }, at === null ? "" : clock(times[read])),
    lines.map((line) => h("span", { class: `key ${line.kind}` }, `${line.name} `, h("b", null, value(line)))),
  );
  const middle = times.length >> 1;
  const labels = [
    [0, "start"],
    [middle, "middle"],
    [times.length - 1, "end"],
  ];
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      tabindex: 0,
      role: "img",
      "aria-label": `${title}: ${lines.map((line) => `${line.name} ${value(line)}`).join(", ")}`,
      pointermove: onMove,
      pointerleave: () => move(null),
      keydown: onKey,
      blur: () => move(null),
    },
    [0, 0.5, 1].map((share) => [
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(top * share), y2: y(top * share) }),
      svg("text", { x: LEFT - 6, y: y(top * share) + 4, "text-anchor": "end" }, form(top * share)),
    ]),
    labels.map(([i, anchor]) =>
      svg("text", { x: x(i), y: HEIGHT - 4, "text-anchor": anchor }, clock(times[i]).slice(0, 5)),
    ),
    lines.map((line) => svg("path", { class: `line ${line.kind}`, d: path(line.values, x, y), "data-most": Math.max(0, ...line.values) })),
    lines.map((line) => svg("path", { class: `line dots ${line.kind}`, d: dots(line.values, x, y) })),
    at === null ? null : svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }),
  );
  return h("figure", { class: "plot", "data-key": title }, legend, picture);
}

function path(values, x, y) {
  let drawn = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const alone = i === 0 || values[i - 1] === null;
    if (!alone && values[i - 1] === value && values[i + 1] === value) return; // in the midst of a straight line
    drawn += `${alone ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
  });
  return drawn;
}

// Values without neighbours, which no line would show.
function dots(values, x, y) {
  const alone = (value, i) => value !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;
  return values.map((value, i) => (alone(value, i) ? `M${x(i).toFixed(1)} ${y(value).toFixed(1)}h0.01` : "")).join("");
}

// A line of what ended lately, without axes.
export function spark(values, label) {
  const top = Math.max(1, ...values);
  const x = (i) => (100 * i) / Math.max(1, values.length - 1);
  const line = path(values, x, (value) => 22 - (20 * value) / top);
  return svg(
    "svg",
    { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("path", { class: "line running", d: line }),
  );
}
