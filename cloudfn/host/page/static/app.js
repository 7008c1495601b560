// One app: its functions with plots, calls, log, dead inputs, versions.

import { badge, link, sum, table, tiles } from "./apps.js";
import { h } from "./dom.js";
import { columns, plot } from "./plot.js";
import { APP_STATES, ago, callState, count, duration, moment, plural, schedule, until } from "./words.js";

const PARTS = { functions: "Functions", calls: "Calls", logs: "Logs", dead: "Dead inputs", versions: "Versions" };

export function app(state, name, part) {
  const found = state.overview.apps.find((other) => other.app === name);
  if (!found) return missing(name);
  const dead = sum(found.functions, "dead");
  const tabs = Object.entries(PARTS).map(([key, title]) =>
    h(
      "a",
      { href: key === "functions" ? link("apps", name) : link("apps", name, key), "aria-current": key === part ? "page" : null },
      title,
      key === "dead" && dead ? h("span", { class: "badge bad" }, count(dead)) : null,
    ),
  );
  const views = { functions, calls, logs, dead: deadInputs, versions };
  return [
    h("p", { class: "path" }, h("a", { href: "#/" }, "Apps"), " / ", name),
    h("h1", null, name, badge(APP_STATES[found.state]), h("span", { class: "quiet" }, `version ${found.version}, deployed ${ago(found.updated, state.now())}`)),
    found.problem ? h("p", { class: "alert", role: "alert" }, found.problem) : null,
    h("nav", { class: "tabs", "aria-label": `Parts of ${name}` }, tabs),
    views[part](state, found),
  ];
}

function missing(name) {
  return [
    h("h1", null, "No such app"),
    h("div", { class: "empty" }, h("p", null, `Nothing is deployed under the name ${name}.`), h("p", null, h("a", { href: "#/" }, "All apps"))),
  ];
}

function functions(state, found) {
  const rows = found.functions.map((f) => {
    const timed = state.overview.schedules.find((entry) => entry.app === found.app && entry.function === f.function);
    const failed = (f.ended.failed ?? 0) + (f.ended.dead ?? 0);
    return {
      key: f.function,
      cells: [
        [h("span", { class: "name" }, f.function), urls(found, f.function)],
        count(f.waiting),
        count(f.running),
        count(f.workers),
        count(f.ended.ok ?? 0),
        failed ? h("span", { class: "bad" }, count(failed)) : "0",
        duration(f.p50),
        duration(f.p99),
        count(f.inputs),
        timed ? h("span", { title: timed.upcoming.map((at) => moment(at)).join("\n") }, schedule(timed), h("br"), h("span", { class: "quiet" }, timed.upcoming.length ? `next ${until(timed.upcoming[0], state.now())}` : "")) : h("span", { class: "quiet" }, "none"),
      ],
    };
  });
  const heads = ["Function", "#Waiting", "#Running", "#Workers", "#Done", "#Failed", "#Half take up to", "#99 % up to", "#All inputs", "Schedule"];
  return [tiles(found.functions), plots(state, found), h("h2", null, "Functions"), table("functions", heads, rows), note()];
}

// Of a web function, or of the methods of a class that are.
function urls(found, name) {
  return Object.entries(found.urls ?? {})
    .filter(([key, url]) => (key === name || key.startsWith(`${name}.`)) && /^https?:/.test(url))
    .map(([, url]) => h("div", null, h("a", { href: url, class: "mono", rel: "noreferrer noopener", target: "_blank" }, url)));
}

const note = () =>
  h("p", { class: "quiet" }, `Running counts every input. "All inputs" are those that ended since the app's agent started, of remote and map too; everything else is of durable inputs: what spawn and schedules make.`);

function plots(state, found) {
  const { step, keep } = state.plots;
  const known = state.points.get(found.app) ?? {};
  const one = found.functions.some((f) => f.function === state.chosen) ? state.chosen : "";
  const series = one ? [known[one] ?? []] : Object.values(known);
  const data = columns(series, step, keep, state.now());
  const common = { times: data.times, redraw: state.redraw };
  const perSecond = (value) => `${value >= 10 ? Math.round(value) : +value.toFixed(2)}/s`;
  const rate = (values) => values.map((value) => value / step);
  return h(
    "section",
    { "aria-label": "Plots" },
    h(
      "div",
      { class: "bar" },
      h("h2", null, "Lately"),
      h(
        "select",
        { "aria-label": "Function", change: (event) => state.choose(event.target.value) },
        h("option", { value: "", selected: !one }, "all functions"),
        found.functions.map((f) => h("option", { value: f.function, selected: f.function === one }, f.function)),
      ),
      ["minutes", "day"].map((range) =>
        h("button", { type: "button", "aria-pressed": String(state.range === range), click: () => state.setRange(range) }, range === "day" ? "24 hours" : "10 minutes"),
      ),
    ),
    h(
      "div",
      { class: "plots" },
      plot({ title: "Queue", ...common, form: (v) => String(Math.round(v * 10) / 10), whole: true, lines: [{ name: "waiting", kind: "waiting", values: data.waiting }, { name: "running", kind: "running", values: data.running }] }),
      plot({ title: "Latency, spawn to result", ...common, form: duration, lines: [{ name: "half up to", kind: "running", values: data.p50 }, { name: "99 % up to", kind: "p99", values: data.p99 }] }),
      plot({ title: "Inputs that ended", ...common, form: perSecond, lines: [{ name: "all", kind: "running", values: rate(data.ended) }, { name: "failed", kind: "failed", values: rate(data.failed) }] }),
    ),
  );
}

function calls(state, found) {
  const listed = state.selected?.calls;
  if (!listed) return h("p", { class: "quiet" }, "Loading…");
  if (!listed.length)
    return h("div", { class: "empty" }, h("p", null, "No call was kept yet. spawn and schedules make calls that are listed here; remote waits for its result and leaves no trace."), h("pre", null, `cloudfn.Function.from_name("${found.app}", "${found.functions[0]?.function ?? "…"}").spawn(…)`));
  const now = state.now();
  const rows = listed.map((call) => ({
    key: call.call,
    cells: [
      h("a", { href: link("apps", found.app, "calls", call.call), class: "mono" }, call.call),
      call.function,
      call.source,
      badge(callState(call)),
      `${count(call.done)} of ${count(call.total)}`,
      h("time", { title: moment(call.created) }, ago(call.created, now)),
      duration((call.finished || now) - call.created),
    ],
  }));
  return [table("calls", ["Call", "Function", "Made by", "State", "#Inputs ended", "Made", "#Took"], rows), listed.length >= 100 ? h("p", { class: "quiet" }, "The newest 100 calls.") : null];
}

function logs(state, found) {
  return state.logView(found.app).root;
}

function deadInputs(state, found) {
  const dead = state.selected?.dead;
  if (!dead) return h("p", { class: "quiet" }, "Loading…");
  if (!dead.length)
    return h("div", { class: "empty" }, h("p", null, "No dead inputs. An input that ends three workers, or that nobody can run, is put here instead of being tried for ever."));
  const rows = dead.map((d) => ({
    key: `${d.call_id} ${d.index}`,
    cells: [
      h("a", { href: link("apps", found.app, "calls", d.call_id), class: "mono" }, d.call_id),
      String(d.index),
      d.function,
      h("time", { title: moment(d.died) }, ago(d.died, state.now())),
      count(d.receives),
      h("span", { class: "reason" }, d.reason),
      h("button", { type: "button", click: () => state.replay(found.app, d.call_id) }, "Replay"),
    ],
  }));
  return [
    h(
      "div",
      { class: "bar" },
      h("p", null, `${plural(dead.length, "input")} could not be run. Deploy a mended version, then replay: they run as if they were new.`),
      h("button", { type: "button", class: "primary", click: () => state.replay(found.app, null) }, "Replay all"),
    ),
    table("dead", ["Call", "#Input", "Function", "Died", "#Begun", "Why", ""], rows),
  ];
}

function versions(state, found) {
  const listed = state.selected?.versions;
  if (!listed) return h("p", { class: "quiet" }, "Loading…");
  const rows = listed.map((v) => ({
    key: String(v.number),
    cells: [
      String(v.number),
      v.number === found.version && found.state !== "stopped" ? badge(["good", "current", "It takes what waits."]) : "",
      h("time", { title: moment(v.created) }, ago(v.created, state.now())),
      v.note,
      v.functions.join(", "),
    ],
  }));
  return [
    table("versions", ["#Version", "", "Deployed", "Word", "Functions"], rows),
    h("p", { class: "quiet" }, "An earlier one again: ", h("code", null, `cloudfn app rollback ${found.app} [VERSION]`)),
  ];
}
