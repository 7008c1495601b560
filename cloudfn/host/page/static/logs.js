// The live log of an app: lines as workers print them, that can be searched and held still.

import { h } from "./dom.js";
import { clock } from "./words.js";

const MOST = 2000; // lines that are kept
const COLOURS = /\x1b\[[0-9;?]*[A-Za-z]/g; // a terminal's

export class LogView {
  constructor(app) {
    this.app = app;
    this.entries = []; // the lines, oldest first; those without a node are drawn with the next frame
    this.gone = 0; // nodes of lines that are not kept any more
    this.drawing = 0;
    this.open = new Map(); // worker and stream -> the line that has no end yet
    this.wanted = "";
    this.stream = "";
    this.follows = true;
    this.lines = h("div", { class: "lines", tabindex: 0, role: "log", "aria-label": `What ${app} prints` });
    this.lines.onscroll = () => this.#follow(this.lines.scrollHeight - this.lines.scrollTop - this.lines.clientHeight < 24);
    this.empty = h("p", { class: "empty" }, "Nothing was printed yet. What the app's functions print shows here at once.");
    this.button = h("button", { type: "button", hidden: true, click: () => this.#follow(true, true) }, "Newest line");
    this.count = h("span", { class: "quiet" });
    const search = h("input", {
      type: "search",
      placeholder: "Find text, a function, a call…",
      "aria-label": "Show only lines that contain",
      input: (event) => this.#filter(event.target.value.trim().toLowerCase(), this.stream),
    });
    const stream = h(
      "select",
      { "aria-label": "Stream", change: (event) => this.#filter(this.wanted, event.target.value) },
      h("option", { value: "" }, "stdout and stderr"),
      h("option", { value: "stdout" }, "stdout"),
      h("option", { value: "stderr" }, "stderr"),
    );
    const bar = h("div", { class: "bar" }, search, stream, this.count, this.button);
    this.root = h("section", { class: "log", "data-own": true, "data-key": `log ${app}` }, bar, this.empty, this.lines);
  }

  add({ lines, skipped, first }) {
    if (first) this.#clear();
    if (skipped) this.#line({ stream: "info" }, `${skipped.toLocaleString()} bytes came too fast and are left out here.`);
    for (const piece of lines) this.#piece(piece);
    const over = this.entries.length - MOST;
    if (over > 0) this.gone += this.entries.splice(0, over).filter((entry) => entry.node).length;
    this.drawing ||= requestAnimationFrame(() => this.#draw());
  }

  #clear() {
    this.entries = [];
    this.gone = 0;
    this.open.clear();
    this.lines.replaceChildren();
  }

  // What was written may end in the midst of a line.
  #piece(piece) {
    const key = `${piece.worker} ${piece.stream}`;
    const parts = piece.text.replace(COLOURS, "").split("\n");
    parts.forEach((text, i) => {
      const ends = i < parts.length - 1;
      const before = this.open.get(key);
      if (before && before.piece.call === piece.call) {
        before.text += text;
        if (before.node) before.node.lastChild.textContent = before.text;
        this.#judge(before);
      } else if (text || ends) this.open.set(key, this.#line(piece, text));
      if (ends) this.open.delete(key);
    });
  }

  #line(piece, text) {
    const entry = { piece, text, node: null, hidden: false };
    this.#judge(entry);
    this.entries.push(entry);
    return entry;
  }

  // Many lines may come between two frames, more than anybody could read: only the last ones are made.
  #draw() {
    this.drawing = 0;
    if (this.gone) {
      const range = document.createRange();
      range.setStart(this.lines, 0);
      range.setEnd(this.lines, this.gone);
      range.deleteContents();
      this.gone = 0;
    }
    let at = this.entries.length;
    while (at > 0 && !this.entries[at - 1].node) at -= 1;
    this.lines.append(...this.entries.slice(at).map((entry) => this.#node(entry)));
    this.empty.hidden = this.entries.length > 0;
    this.#tell();
    if (this.follows) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #node(entry) {
    const { piece } = entry;
    const who = [piece.function, piece.worker].filter(Boolean).join(" · ");
    const call = piece.call
      ? h("a", { class: "call", href: `#/apps/${encodeURIComponent(this.app)}/calls/${piece.call}` }, piece.call)
      : h("span", { class: "call" });
    entry.node = h(
      "div",
      { class: `entry ${piece.stream === "stdout" ? "" : piece.stream}`, hidden: entry.hidden },
      h("time", null, piece.time ? clock(piece.time) : ""),
      h("span", { class: "who", title: who }, who),
      call,
      h("span", { class: "words" }, entry.text),
    );
    return entry.node;
  }

  #judge(entry) {
    const { piece, text } = entry;
    const all = this.wanted && `${text} ${piece.function ?? ""} ${piece.worker ?? ""} ${piece.call ?? ""}`.toLowerCase();
    entry.hidden = Boolean((this.wanted && !all.includes(this.wanted)) || (this.stream && piece.stream !== this.stream));
    if (entry.node) entry.node.hidden = entry.hidden;
  }

  #filter(wanted, stream) {
    Object.assign(this, { wanted, stream });
    for (const entry of this.entries) this.#judge(entry);
    this.#tell();
    if (this.follows) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #tell() {
    const shown = this.entries.filter((entry) => !entry.hidden).length;
    const all = this.entries.length;
    this.count.textContent = shown === all ? `${all} lines` : `${shown} of ${all} lines`;
  }

  #follow(follows, jump) {
    this.follows = follows;
    this.button.hidden = follows;
    if (jump) this.lines.scrollTop = this.lines.scrollHeight;
  }
}
