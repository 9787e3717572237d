// After: view_elements.js
// The controls, all of them native: reachable by keyboard and read out by name; and the keys.

const WINDOWS = [32, 64, 128, 256, 512];
const KEYS = [
  ["← → Home End", "another token"],
  ["Shift+← Shift+→, Space", "several tokens, whose attention is added"],
  ["Escape", "one token again; leave the lecture mode"],
  ["H Shift+H", "next, previous head"],
  ["Page Down, Page Up", "next, previous layer"],
  ["N Shift+N", "next, previous checkpoint"],
  ["P", "play the checkpoints, or pause"],
  ["V", "next way of looking"],
  ["W", "tokens or whole words"],
  ["S", "fixed or automatic scale"],
  ["I", "lines between tokens"],
  ["C", "show or fold the controls"],
  ["O", "show or fold the overview of all heads"],
  ["L", "lecture mode"],
  ["?", "these keys"],
];

class Controls {
  constructor(view) {
    this.view = view;
    this.layer = choice("layer", []);
    this.head = element("input", { type: "range", min: 1, step: 1, "data-control": "head" });
    this.headNumber = element("output", { class: "tinybert-beside" });
    this.merge = choice("merge", [["one"], ["mean", "mean of all"], ["maximum", "maximum of all"]]);
    this.way = choice("view", []);
    this.words = choice("words", [["false", "tokens"], ["true", "whole words"]]);
    this.scale = choice("scale", [["fixed"], ["automatic"]]);
    this.lines = element("input", { type: "checkbox", "data-control": "lines" });
    this.start = element("input", { type: "range", min: 0, step: 1, "data-control": "start" });
    this.width = choice("width", []);
    this.lecture = element("button", { type: "button", text: "Lecture mode (L)", "data-control": "lecture",
      "aria-pressed": "false" });
    this.fold = element("button", { type: "button", text: "Controls (C)", "data-control": "fold" });
    this.help = element("button", { type: "button", text: "?", "aria-label": "keys", "aria-expanded": "false" });
    this.arrange();
    this.listen();
  }

  arrange() {
    const line = (...parts) => element("div", { class: "tinybert-line" }, ...parts);
    this.headLabel = named("Head", this.head, this.headNumber);
    this.mergeLabel = named("Heads", this.merge);
    this.wordsLabel = named("Unit", this.words);
    this.windowControls = line(named("Window from", this.start), named("tokens", this.width));
    this.exporting = new Export(this.view);
    this.folded = element("div", { class: "tinybert-controls" },
      line(named("Layer", this.layer), this.headLabel, this.mergeLabel,
        named("Show", this.way)),
      line(this.wordsLabel, named("Scale", this.scale), named("Lines", this.lines), this.exporting.box),
      this.windowControls);
    this.keys = element("dl", { class: "tinybert-keys", hidden: true }, ...KEYS.flatMap(([key, does]) =>
      [element("dt", { text: key }), element("dd", { text: does })]));
    this.says = element("p", { class: "tinybert-says" });
    this.box = element("div", { class: "tinybert-top" },
      element("div", { class: "tinybert-buttons" }, this.lecture, this.fold, this.help),
      this.folded, this.keys);
  }

  show() {
    const { view } = this, { sight } = view, { kind } = view.state.seen;
    this.fillLayers(sight);
    const heads = headsOf(sight);
    this.head.min = heads[0] ?? 1;
    this.head.max = heads[heads.length - 1] ?? 0;
    this.head.value = sight.head > 0 ? sight.head : view.state.lastHead;
    this.head.disabled = this.merge.disabled = !kind.heads;
    this.headNumber.textContent = kind.heads ? view.headText().replace(/^head |^the /, "") : "all together";
    this.headLabel.hidden = sight.heads === 0;
    this.mergeLabel.hidden = !sight.merges;
    this.merge.value = sight.head > 0 ? "one" : sight.head === 0 ? "mean" : "maximum";
    const ways = view.ways();
    if (this.way.options.length !== ways.length)
      this.way.replaceChildren(...ways.map(({ name }) => element("option", { value: name, text: wayName(name) })));
    this.way.value = view.state.seen.view;
    const says = ways.find(({ name }) => name === view.state.seen.view)?.says ?? "";
    if (this.says.textContent !== says) this.says.textContent = says;
    this.says.hidden = !says;
    this.wordsLabel.hidden = !sight.words;
    this.words.value = String(view.setting("words", false));
    this.scale.value = view.setting("scale", "fixed");
    this.lines.checked = view.setting("lines", false);
  }

  fillLayers(sight) {
    const pairs = pairsOf(sight), written = JSON.stringify([pairs, sight.layer_merges]);
    if (this.pairs !== written) {
      this.layer.replaceChildren(...pairs.map(({ student, teacher, mapped }, i) => element("option", { value: i + 1,
        text: !sight.teacher && !sight.tables?.[0] ? `student ${student}` :
          `student ${student} beside teacher ${teacher ?? "—"}${mapped ? "" : " (not mapped)"}` }))
        .filter(option => layersOf(sight).includes(Number(option.value))));
      if (sight.layer_merges) this.layer.append(...Object.entries(MERGES).map(([value, how]) =>
        element("option", { value, text: `${how} of all mapped layers` })));
    }
    this.pairs = written;
    this.layer.value = sight.layer;
  }

  // The window of a long text: its sizes, and where it begins.
  showWindow(size) {
    const sizes = [...WINDOWS.filter(count => count < size), size], { options } = this.width;
    if (options.length !== sizes.length || Number(options[options.length - 1].value) !== size) {
      this.width.replaceChildren(...sizes.map(count => element("option", { value: count,
        text: count === size ? `all ${size}` : count })));
      this.width.value = size <= 64 ? size : 64;
      this.start.value = 0;
    }
    const count = Number(this.width.value);
    this.start.max = size - count;
    this.windowControls.hidden = size <= WINDOWS[0];
    return [Math.min(Number(this.start.value), size - count), count];
  }

  listen() {
    const { view } = this, on = (control, event, act) => control.addEventListener(event, act);
    on(this.layer, "change", () => view.choose("layer", Number(this.layer.value)));
    on(this.head, "input", () => view.choose("head",
      nearest(headsOf(view.sight), Number(this.head.value))));
    on(this.merge, "change", () => view.choose("head",
      { mean: 0, maximum: -1 }[this.merge.value] ?? nearest(headsOf(view.sight), view.state.lastHead)));
    on(this.way, "change", () => view.choose("view", this.way.value));
    on(this.words, "change", () => view.choose("words", this.words.value === "true"));
    on(this.scale, "change", () => view.choose("scale", this.scale.value));
    on(this.lines, "change", () => view.choose("lines", this.lines.checked));
    for (const control of [this.start, this.width]) on(control, "input", () => view.later());
    on(this.lecture, "click", () => this.setLecture(!view.state.lecture));
    on(this.fold, "click", () => this.setFolded(!this.folded.hidden));
    on(this.help, "click", () => this.showKeys());
  }

  showKeys() {
    this.keys.hidden = !this.keys.hidden;
    this.help.setAttribute("aria-expanded", String(!this.keys.hidden));
  }

  setFolded(folded) {
    this.folded.hidden = folded;
    this.fold.setAttribute("aria-expanded", String(!folded));
    this.view.later();
  }

  // Over the whole window, in the browser's top layer, so that nothing around it cuts it off.
  setLecture(on) {
    const { root, state } = this.view;
    state.lecture = on;
    root.classList.toggle("tinybert-lecture", on);
    this.lecture.setAttribute("aria-pressed", String(on));
    this.setFolded(on);
    this.view.overview.fold(on);
    if (on) {
      root.popover = "manual";
      root.showPopover();
    } else {
      root.hidePopover();
      root.removeAttribute("popover");
    }
    this.view.later();
  }

  // A key that is no letter for the control that has the focus.
  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("select, textarea, input:not([type='range'], [type='checkbox'])")) return;
    if (event.key.startsWith("Page") && event.target.matches?.("input")) return; // a slider's own keys
    const { view } = this, { sight } = view, back = event.shiftKey ? -1 : 1;
    const act = {
      h: () => sight.heads && view.choose("head", moved(headsOf(sight), Math.max(sight.head, 1), back, true)),
      pagedown: () => view.choose("layer", moved(layersOf(sight), sight.layer, 1)),
      pageup: () => view.choose("layer", moved(layersOf(sight), sight.layer, -1)),
      n: () => view.training.isThere() && view.training.go(view.training.at + back),
      p: () => view.training.isThere() && view.training.toggle(),
      v: () => view.choose("view", after(view.ways().map(({ name }) => name), view.state.seen.view)),
      w: () => sight.words && view.choose("words", !view.setting("words", false)),
      s: () => view.choose("scale", view.setting("scale") === "automatic" ? "fixed" : "automatic"),
      i: () => view.choose("lines", !view.setting("lines", false)),
      o: () => view.overview.fold(view.overview.box.open),
      c: () => this.setFolded(!this.folded.hidden),
      l: () => this.setLecture(!view.state.lecture),
      "?": () => this.showKeys(),
      escape: () => view.state.lecture && this.setLecture(false),
    }[event.key.toLowerCase()];
    if (!act) return;
    if (event.key !== "Escape") event.preventDefault();
    act();
  }
}

const nearest = (numbers, number) => numbers.reduce((best, one) =>
  Math.abs(one - number) < Math.abs(best - number) ? one : best);

// The next number of a list, or the one before; at its end the first again (`round`) or the last.
function moved(numbers, number, step, round = false) {
  const place = numbers.indexOf(nearest(numbers, number)) + step, { length } = numbers;
  return numbers[round ? (place + length) % length : Math.min(Math.max(place, 0), length - 1)];
}

const after = (names, name) => names[(names.indexOf(name) + 1) % names.length];
