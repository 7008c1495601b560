// Numbers, times and states as people read them.

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "> 1 h";
  if (seconds <= 0) return "0";
  if (seconds < 0.001) return `${Math.max(1, Math.round(seconds * 1e6))} µs`;
  if (seconds < 1) return `${seconds < 0.01 ? (seconds * 1000).toFixed(1) : Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

export function span(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

export const ago = (then, now) => (now - then < 2 ? "now" : `${span(now - then)} ago`);
export const until = (then, now) => (then - now < 2 ? "now" : `in ${span(then - now)}`);

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const clock = (seconds) => CLOCK.format(seconds * 1000);
export const moment = (seconds, timeZone) => {
  if (!timeZone) return MOMENT.format(seconds * 1000);
  try {
    return new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short", timeZone }).format(seconds * 1000);
  } catch {
    return MOMENT.format(seconds * 1000); // a zone that this browser does not know
  }
};

export const count = (number) => number.toLocaleString();
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
export const memory = (mebibytes) => (mebibytes === null ? "unknown" : `${(mebibytes / 1024).toFixed(1)} GiB`);

export const APP_STATES = {
  warm: ["good", "ready", "Its agent runs: a call starts at once."],
  cold: ["calm", "asleep", "No process of it runs. The next input wakes it."],
  draining: ["busy", "ending", "A newer version takes over; this one ends what it has begun."],
  ended: ["calm", "ended", "It has ended."],
  stopped: ["calm", "stopped", "It was stopped. Deploy it again to go on."],
  broken: ["bad", "cannot start", "The host could not start it. `cloudfn host log` says why."],
};

export function callState(call) {
  if (call.cancelled) return ["calm", "cancelled", "Somebody cancelled it."];
  if (call.expired) return ["calm", "results gone", "It ended, and its results were kept long enough."];
  if (call.failed) return ["bad", call.total === 1 ? "failed" : `${call.failed.toLocaleString()} failed`, "Some inputs of it raised an error."];
  if (call.finished) return ["good", "ended", "Every input of it has ended."];
  return ["busy", call.done ? "running" : "open", "Some inputs have not ended yet."];
}

export const INPUT_STATES = {
  ok: ["good", "done", "It returned a result."],
  failed: ["bad", "failed", "It raised an error."],
  cancelled: ["calm", "cancelled", "It was cancelled."],
  open: ["busy", "open", "It waits or runs."],
  ended: ["calm", "ended", "It has ended."],
};

export const WORKER_STATES = {
  starting: ["busy", "starting", "It gets ready."],
  idle: ["calm", "idle", "It waits for an input."],
  leased: ["good", "in use", "Somebody who calls holds it."],
  stopping: ["calm", "ending", "It runs its exit hooks."],
};

export function schedule(entry) {
  if (entry.cron) return `${entry.cron} (${entry.timezone})`;
  const parts = Object.entries(entry.period).filter(([, value]) => value);
  return `every ${parts.map(([unit, value]) => (value === 1 ? unit.slice(0, -1) : `${value} ${unit}`)).join(" ")}`;
}
