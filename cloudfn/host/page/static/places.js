// Schedules, workers with their machine, detached runs.

import { badge, link, table } from "./apps.js";
import { h } from "./dom.js";
import { WORKER_STATES, ago, count, duration, memory, moment, schedule, until } from "./words.js";

export function schedules(state) {
  const found = state.overview.schedules;
  if (!found.length)
    return [
      h("h1", null, "Schedules"),
      h("div", { class: "empty" }, h("p", null, "Nothing is scheduled. Give a function a schedule, and deploy its app:"), h("pre", null, '@app.function(schedule=cloudfn.Cron("0 2 * * *", timezone="Europe/Paris"))\ndef nightly(): ...')),
    ];
  const now = state.now();
  const rows = found.map((entry) => ({
    key: `${entry.app} ${entry.function}`,
    cells: [
      h("a", { href: link("apps", entry.app), class: "name" }, entry.app),
      entry.function,
      h("span", { class: "mono" }, schedule(entry)),
      entry.last ? h("time", { title: moment(entry.last) }, ago(entry.last, now)) : "not yet",
      h("ol", { class: "times" }, entry.upcoming.map((at, i) => h("li", null, moment(at, entry.cron ? entry.timezone : ""), i ? "" : h("span", { class: "quiet" }, ` ${until(at, now)}`)))),
      entry.skipped ? `${count(entry.skipped)} left out` : "none",
    ],
  }));
  return [h("h1", null, "Schedules"), table("schedules", ["App", "Function", "When", "Last run", "Next runs", "Overlaps"], rows)];
}

export function workers(state) {
  const { machine, workers: found, pid, started, services, troubles } = state.overview;
  const used = machine.memory_total === null ? "unknown" : `${memory(machine.memory_total - machine.memory_free)} of ${memory(machine.memory_total)}`;
  const facts = [
    ["Machine", machine.name],
    ["System", machine.system],
    ["Cores", `${machine.cores ?? "unknown"}`],
    ["Load", machine.load === null ? "unknown" : machine.load.toFixed(1)],
    ["Memory in use", used],
    ["Host", `pid ${pid}, up ${duration(state.now() - started)}`],
  ];
  const rows = found.map((worker) => ({
    key: `${worker.app} ${worker.name} ${worker.pid}`,
    cells: [h("a", { href: link("apps", worker.app), class: "name" }, worker.app), worker.function, worker.name, badge(WORKER_STATES[worker.state] ?? ["calm", worker.state, ""]), String(worker.pid)],
  }));
  return [
    h("h1", null, "Workers"),
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)))),
    found.length
      ? table("workers", ["App", "Function", "Worker", "State", "#Process"], rows)
      : h("div", { class: "empty" }, h("p", null, "No worker runs now. Workers start when inputs come, and end some time after the last one; min_containers keeps some at all times.")),
    h("h2", null, "Services"),
    h("ul", null, services.map((line) => h("li", null, withLink(line)))),
    troubles.map((line) => h("p", { class: "alert" }, line)),
  ];
}

// Addresses on this machine can be followed.
function withLink(line) {
  const found = /http:\/\/(?:127\.0\.0\.1|localhost):\d+\/[\w./-]*/.exec(line);
  if (!found) return line;
  return [line.slice(0, found.index), h("a", { href: found[0], rel: "noreferrer noopener" }, found[0]), line.slice(found.index + found[0].length)];
}

export function runs(state) {
  const found = [...state.overview.detached].reverse();
  if (!found.length)
    return [
      h("h1", null, "Detached runs"),
      h("div", { class: "empty" }, h("p", null, "No run was handed to this host. This does so, and the run goes on when its terminal closes:"), h("pre", null, "cloudfn run --detach FILE")),
    ];
  const rows = found.map((run) => ({
    key: run.run,
    cells: [h("span", { class: "mono" }, run.run), badge(run.alive ? ["good", "running", ""] : run.code === 0 ? ["calm", "ended", ""] : ["bad", run.code === null ? "cut short" : `ended with ${run.code}`, ""]), run.alive ? String(run.pid) : ""],
  }));
  return [h("h1", null, "Detached runs"), table("runs", ["Run", "State", "#Process"], rows)];
}
