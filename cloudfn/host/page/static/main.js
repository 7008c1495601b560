// Where we are, what the host says, and the drawing of it.

import { app } from "./app.js";
import { apps } from "./apps.js";
import { call } from "./call.js";
import { h, morphChildren } from "./dom.js";
import { LogView } from "./logs.js";
import { runs, schedules, workers } from "./places.js";
import { SignedOut, ask, isSignedIn, listen, redeemLink, signOut } from "./session.js";

const PARTS = ["functions", "calls", "logs", "dead", "versions"];
const PAUSE = 1000; // ms before we try again to reach the host

const state = {
  overview: null,
  selected: null,
  points: new Map(), // app -> function -> points
  plots: { step: 2, keep: 300 },
  range: "minutes",
  chosen: "", // the function that plots show
  call: null,
  callError: "",
  trouble: "", // why we hear nothing
  refusal: "", // why a link did not let us in
  offset: 0, // the host's clock against ours
  log: null,
  now: () => Date.now() / 1000 + state.offset,
  redraw: () => draw(),
  choose: (name) => draw((state.chosen = name)),
  setRange: (range) => {
    if (range === state.range) return;
    state.range = range;
    reopen();
  },
  logView: (name) => {
    if (state.log?.app !== name) state.log = new LogView(name);
    return state.log;
  },
  replay: (name, id) => act(() => ask("/api/replay", { app: name, call: id }), ({ replayed }) => `Put back ${replayed} input${replayed === 1 ? "" : "s"}.`),
  cancel: (id) => {
    if (confirm(`Cancel ${id}? What runs of it is stopped, and cannot be taken up again.`)) act(() => ask("/api/cancel", { call: id }), () => "Cancelled.");
  },
};

// -- where we are

function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decode);
  if (parts[0] === "apps" && parts[1]) {
    if (parts[2] === "calls" && parts[3]) return { name: "call", app: parts[1], id: parts[3] };
    return { name: "app", app: parts[1], part: PARTS.includes(parts[2]) ? parts[2] : "functions" };
  }
  return { name: ["schedules", "workers", "runs"].includes(parts[0]) ? parts[0] : "apps" };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// -- what the host says

let listening = null;

function reopen() {
  listening?.abort();
  listening = null;
  if (!isSignedIn() || document.hidden) return draw();
  const { app = "", part = "", name } = route();
  state.points = new Map();
  state.selected = null;
  if (part !== "logs") state.log = null;
  listening = new AbortController();
  follow({ app, part: name === "call" ? "calls" : part, range: state.range }, listening.signal);
  draw();
}

async function follow(view, signal) {
  while (!signal.aborted) {
    try {
      await listen(view, onEvent, signal);
      state.trouble = "The host has ended this stream.";
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof SignedOut) return draw();
      state.trouble = "The host does not answer: it has ended, or starts again.";
    }
    draw();
    await new Promise((done) => setTimeout(done, PAUSE));
  }
}

function onEvent(name, data) {
  state.trouble = "";
  if (name === "state") {
    const before = JSON.stringify(state.selected?.calls?.find((entry) => entry.call === state.call?.call));
    state.overview = data;
    state.selected = data.selected ?? null;
    const here = route();
    const after = JSON.stringify(state.selected?.calls?.find((entry) => entry.call === here.id));
    if (here.name === "call" && (before !== after || state.call?.call !== here.id)) loadCall(here.id);
  } else if (name === "points") {
    state.offset = data.now - Date.now() / 1000;
    state.plots = { step: data.step, keep: data.keep };
    for (const [app, functions] of Object.entries(data.apps)) addPoints(app, functions, data.keep);
  } else if (name === "log") {
    const here = route();
    if (here.part === "logs") state.logView(here.app).add(data);
  } else if (name === "gone") {
    state.selected = null;
  }
  draw();
}

function addPoints(app, functions, keep) {
  const known = state.points.get(app) ?? {};
  for (const [name, points] of Object.entries(functions)) known[name] = [...(known[name] ?? []), ...points].slice(-keep);
  state.points.set(app, known);
}

async function loadCall(id) {
  try {
    state.call = await ask(`/api/call?${new URLSearchParams({ id })}`);
    state.callError = "";
  } catch (error) {
    if (!(error instanceof SignedOut)) state.callError = error.message;
  }
  draw();
}

async function act(work, words) {
  try {
    say(words(await work()));
  } catch (error) {
    if (error instanceof SignedOut) return reopen();
    say(error.message, true);
  }
}

function say(text, bad) {
  const said = document.getElementById("said");
  said.replaceChildren(h("p", { class: bad ? "toast bad" : "toast" }, text));
  setTimeout(() => said.firstChild?.textContent === text && said.replaceChildren(), 6000);
}

// -- the drawing

let drawing = 0;

function draw() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    const here = route();
    morphChildren(document.getElementById("top"), header(here));
    morphChildren(document.getElementById("content"), content(here).flat(Infinity).filter(Boolean));
    document.title = [here.id, here.app, "cloudfn"].filter(Boolean).join(" · ");
  });
}

function content(here) {
  if (!isSignedIn()) return door();
  if (!state.overview) return [h("p", { class: "quiet" }, state.trouble || "Loading…")];
  const views = { apps, schedules, workers, runs };
  if (here.name === "app") return [app(state, here.app, here.part)];
  if (here.name === "call") return [call(state, here.app, here.id)];
  return [views[here.name](state)];
}

function door() {
  return [
    h(
      "div",
      { class: "empty door" },
      h("h1", null, "This page opens with a link"),
      state.refusal ? h("p", { class: "alert", role: "alert" }, state.refusal) : null,
      h("p", null, "It shows what your apps print and can run calls again, so it does not open to everybody on this machine. In a terminal of yours:"),
      h("pre", null, "cloudfn host open"),
      h("p", { class: "quiet" }, "The link works once, for ten minutes. This browser then stays signed in for a week, or until the host starts again."),
    ),
  ];
}

function header(here) {
  const items = { apps: "Apps", schedules: "Schedules", workers: "Workers", runs: "Runs" };
  const inside = { app: "apps", call: "apps" }[here.name] ?? here.name;
  const signedIn = isSignedIn();
  return [
    h("a", { class: "brand", href: "#/" }, h("img", { src: "icon.svg", alt: "", width: 22, height: 22 }), "cloudfn"),
    h("nav", { "aria-label": "Main" }, signedIn ? Object.entries(items).map(([key, title]) => h("a", { href: key === "apps" ? "#/" : `#/${key}`, "aria-current": key === inside ? "page" : null }, title)) : []),
    h(
      "div",
      { class: "right" },
      signedIn ? h("span", { class: `pulse ${state.trouble ? "bad" : "good"}`, title: state.trouble || "What you see is what is so now." }, state.trouble ? "no connection" : "live") : null,
      h("button", { type: "button", class: "plain", click: turnTheme }, dark() ? "Light" : "Dark"),
      signedIn ? h("button", { type: "button", class: "plain", click: leave }, "Sign out") : null,
    ),
  ];
}

async function leave() {
  try {
    await signOut();
  } catch {
    // the host has ended, and with it what let us in
  }
  reopen();
}

const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (localStorage.getItem("cloudfn-theme") ?? (system.matches ? "dark" : "light")) === "dark";

function theme() {
  document.documentElement.dataset.theme = dark() ? "dark" : "light";
  draw();
}

function turnTheme() {
  localStorage.setItem("cloudfn-theme", dark() ? "light" : "dark");
  theme();
}

// -- the beginning

addEventListener("hashchange", async () => {
  if (location.hash.startsWith("#ticket=")) state.refusal = await redeemLink();
  state.callError = "";
  reopen();
});
addEventListener("visibilitychange", reopen);
addEventListener("storage", (event) => (event.key === "cloudfn-theme" ? theme() : reopen()));
system.addEventListener("change", theme);
setInterval(draw, 5000); // "5 s ago" becomes "10 s ago"
theme();
state.refusal = await redeemLink();
reopen();
