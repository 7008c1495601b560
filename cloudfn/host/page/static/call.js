// One call: how its inputs ended, and what they printed.

import { badge, link, table } from "./apps.js";
import { h } from "./dom.js";
import { INPUT_STATES, ago, callState, clock, count, duration, moment } from "./words.js";

export function call(state, app, id) {
  const found = state.call?.call === id ? state.call : null;
  const head = h("p", { class: "path" }, h("a", { href: "#/" }, "Apps"), " / ", h("a", { href: link("apps", app) }, app), " / ", h("a", { href: link("apps", app, "calls") }, "Calls"));
  if (state.callError) return [head, h("h1", { class: "mono" }, id), h("div", { class: "empty" }, h("p", null, state.callError))];
  if (!found) return [head, h("h1", { class: "mono" }, id), h("p", { class: "quiet" }, "Loading…")];
  const now = state.now();
  const open = !found.finished && !found.cancelled;
  const facts = [
    ["Function", found.function],
    ["Made by", found.source],
    ["Made", `${moment(found.created)} (${ago(found.created, now)})`],
    ["Inputs", `${count(found.done)} of ${count(found.total)} ended`],
    [open ? "So far" : "Took", duration((found.finished || now) - found.created)],
  ];
  return [
    head,
    h("h1", { class: "mono" }, id, badge(callState(found))),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    open ? h("p", null, h("button", { type: "button", click: () => state.cancel(id) }, "Cancel this call")) : null,
    h("h2", null, "Inputs"),
    inputs(found, now),
    h("h2", null, "What they printed"),
    printed(found),
  ];
}

function inputs(found, now) {
  if (!found.inputs.length) return h("div", { class: "empty" }, h("p", null, found.total ? "Its results were kept long enough and are gone." : "This call has no inputs."));
  const rows = found.inputs.map((input) => ({
    key: String(input.index),
    cells: [
      String(input.index),
      badge(INPUT_STATES[input.state] ?? INPUT_STATES.ended),
      input.finished ? h("time", { title: moment(input.finished) }, ago(input.finished, now)) : "",
      input.error ? h("pre", { class: "error" }, input.error) : "",
    ],
  }));
  return [table("inputs", ["#Input", "State", "Ended", "Error"], rows), found.total > found.inputs.length ? h("p", { class: "quiet" }, `The first ${found.inputs.length} of ${count(found.total)}.`) : null];
}

function printed(found) {
  if (!found.lines.length) return h("div", { class: "empty" }, h("p", null, "Nothing that is known to be of this call."));
  const lines = found.lines.map((line) =>
    h("div", { class: `entry ${line.stream === "stdout" ? "" : line.stream}` }, h("time", null, clock(line.time)), h("span", { class: "who" }, `input ${line.input}`), h("span", { class: "words" }, line.text.replace(/\n$/, ""))),
  );
  return h("div", { class: "lines still", tabindex: 0, role: "group", "aria-label": "Lines of this call" }, lines);
}
