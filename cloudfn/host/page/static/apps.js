// All apps at a glance.

import { h } from "./dom.js";
import { columns, spark } from "./plot.js";
import { APP_STATES, ago, count, plural } from "./words.js";

export const badge = ([kind, word, why]) => h("span", { class: `badge ${kind}`, title: why }, word);
export const link = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;
export const cells = (tag, texts) => texts.map((text) => h(tag, tag === "th" ? { scope: "col" } : null, text));

export function table(key, heads, rows) {
  const numeric = (head) => (head.startsWith("#") ? "number" : null);
  return h(
    "div",
    { class: "scroll", "data-key": key },
    h(
      "table",
      null,
      h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col", class: numeric(head) }, head.replace("#", ""))))),
      h(
        "tbody",
        null,
        rows.map(({ key, cells }) =>
          h("tr", { "data-key": key }, cells.map((cell, i) => h("td", { class: numeric(heads[i]), "data-head": heads[i].replace("#", "") }, cell))),
        ),
      ),
    ),
  );
}

export const sum = (functions, name) => functions.reduce((total, f) => total + f[name], 0);
const ended = (functions) => functions.reduce((total, f) => total + Object.values(f.ended).reduce((a, b) => a + b, 0), 0);

function tile(name, value, note, kind) {
  return h("div", { class: `tile ${kind ?? ""}` }, h("span", { class: "quiet" }, name), h("b", null, value), h("span", { class: "quiet" }, note ?? ""));
}

export function tiles(functions) {
  const dead = sum(functions, "dead");
  return h(
    "div",
    { class: "tiles" },
    tile("Waiting", count(sum(functions, "waiting")), "inputs without a worker"),
    tile("Running", count(sum(functions, "running")), "inputs with a worker"),
    tile("Workers", count(sum(functions, "workers")), "processes"),
    tile("Ended", count(ended(functions)), "since the host began"),
    tile("Dead", count(dead), dead ? "need somebody to look" : "nothing to look at", dead ? "bad" : ""),
  );
}

const EXAMPLE = `import cloudfn

app = cloudfn.App("hello")


@app.function()
def square(x):
    print("squaring", x)
    return x * x
`;

function nothing() {
  return h(
    "div",
    { class: "empty" },
    h("h2", null, "Nothing is deployed yet"),
    h("p", null, "Put this into hello.py:"),
    h("pre", null, EXAMPLE),
    h("p", null, "Then hand it to this host, and call it from any program:"),
    h("pre", null, 'cloudfn deploy hello.py\npython -c \'import cloudfn; print(cloudfn.Function.from_name("hello", "square").spawn(4).get())\''),
  );
}

export function apps(state) {
  const { apps } = state.overview;
  const now = state.now();
  if (!apps.length) return [h("h1", null, "Apps"), nothing()];
  const all = apps.flatMap((app) => app.functions);
  const rows = apps.map((app) => {
    const { step, keep } = state.plots;
    const lately = columns(Object.values(state.points.get(app.app) ?? {}), step, Math.min(keep, 150), now).ended;
    const number = (name) => count(sum(app.functions, name));
    const dead = sum(app.functions, "dead");
    return {
      key: app.app,
      cells: [
        h("a", { href: link("apps", app.app), class: "name" }, app.app),
        badge(app.problem ? ["bad", "has a problem", app.problem] : APP_STATES[app.state]),
        `${app.version}`,
        plural(app.functions.length, "function"),
        number("waiting"),
        number("running"),
        number("workers"),
        dead ? h("a", { href: link("apps", app.app, "dead"), class: "bad" }, count(dead)) : "0",
        spark(lately, `Inputs that ended in the last minutes: ${lately.reduce((a, b) => a + b, 0)}`),
        h("time", { title: new Date(app.updated * 1000).toLocaleString() }, ago(app.updated, now)),
      ],
    };
  });
  const heads = ["App", "State", "#Version", "Functions", "#Waiting", "#Running", "#Workers", "#Dead", "Last 5 minutes", "Deployed"];
  return [h("h1", null, "Apps"), tiles(all), table("apps", heads, rows)];
}
