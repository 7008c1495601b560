// The live log of an app: lines as workers print them, that can be searched and held still.

import { h } from "./dom.js";
import { clock } from "./words.js";

const MOST = 5000; // lines that are kept
const COLOURS = /\x1b\[[0-9;?]*[A-Za-z]/g; // a terminal's

export class LogView {
  constructor(app) {
    this.app = app;
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
    if (first) {
      this.lines.replaceChildren();
      this.open.clear();
    }
    if (skipped) this.#append({ stream: "info", text: `${skipped.toLocaleString()} bytes came too fast and are left out here.` });
    for (const piece of lines) this.#piece(piece);
    while (this.lines.childElementCount > MOST) this.lines.firstChild.remove();
    this.empty.hidden = this.lines.childElementCount > 0;
    this.#tell();
    if (this.follows) this.lines.scrollTop = this.lines.scrollHeight;
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
        before.words.textContent = before.text;
        this.#show(before);
      } else if (text || ends) this.open.set(key, this.#append({ ...piece, text }));
      if (ends) this.open.delete(key);
    });
  }

  #append(piece) {
    const words = h("span", { class: "words" }, piece.text);
    const who = [piece.function, piece.worker].filter(Boolean).join(" · ");
    const call = piece.call
      ? h("a", { class: "call", href: `#/apps/${encodeURIComponent(this.app)}/calls/${piece.call}` }, piece.call)
      : h("span", { class: "call" });
    const node = h(
      "div",
      { class: `entry ${piece.stream === "stdout" ? "" : piece.stream}` },
      h("time", null, piece.time ? clock(piece.time) : ""),
      h("span", { class: "who", title: who }, who),
      call,
      words,
    );
    const entry = { piece, node, words, text: piece.text };
    node.entry = entry;
    this.#show(entry);
    this.lines.append(node);
    return entry;
  }

  #show(entry) {
    const { piece, text, node } = entry;
    const all = `${text} ${piece.function ?? ""} ${piece.worker ?? ""} ${piece.call ?? ""}`.toLowerCase();
    node.hidden = (this.wanted && !all.includes(this.wanted)) || (this.stream && piece.stream !== this.stream);
  }

  #filter(wanted, stream) {
    Object.assign(this, { wanted, stream });
    for (const node of this.lines.children) this.#show(node.entry);
    this.#tell();
    if (this.follows) this.lines.scrollTop = this.lines.scrollHeight;
  }

  #tell() {
    const shown = [...this.lines.children].filter((node) => !node.hidden).length;
    const all = this.lines.childElementCount;
    this.count.textContent = shown === all ? `${all} lines` : `${shown} of ${all} lines`;
  }

  #follow(follows, jump) {
    this.follows = follows;
    this.button.hidden = follows;
    if (jump) this.lines.scrollTop = this.lines.scrollHeight;
  }
}
