// After: view_tables.js view_colours.js view_answers.js view_overview.js view_training.js view_strip.js view_pictures.js view_lines.js view_status.js view_export.js view_controls.js
// Teacher, student and difference of one attention head, interactive by pointer and keys.
//
// The same files draw in JupyterLab (as an anywidget) and in pages that are opened from disk. The view
// asks its model for
//   sight     {tokens, segments, words, layers, unmapped, heads, merges, windows, layer, head, view,
//             largest, ends, teacher, student, norms, tables, answers}:
//             tokens; to which text each belongs; of which word each is a piece (null: of none); per
//             student layer the teacher layer beside it (null: none), and further pairs of student
//             and teacher layer that the layer map does not have; how many heads, and whether they
//             can be merged, and layers (layer_merges); per pair both models' windows of local
//             attention (null: none); which pair is shown, from 1 (0: the mean of the layer map's,
//             -1: their maximum), and which head (0: the mean of all, -1: their maximum); the
//             largest absolute score of all heads, and of other ways; the head's scores before the
//             softmax, float32, row by row, with both models' factors of value-weighted attention;
//             for what has no head of its own, both models' tables of `view`. `teacher` is null where
//             only the student is shown, and NaN while it is still being computed.
//   view      a name of WAYS; `ways` holds {name, says} of those that there are
//   token     the token whose attention is shown (the query), from 0; `selected`: further ones
//   words, scale, lines, measure, overview, opened: as the controls and the overview show them
//   training, checkpoint: of a student at several checkpoints, as view_training.js says; the sight of
//             such a student has the number of its checkpoint
// and sets layer, head, view, token, selected, words, scale, lines, measure and checkpoint when the
// reader chooses others. Text is only ever set as textContent, and nothing is fetched.

// The pairs of layers that can be shown: those of the layer map, then the further ones.
function pairsOf({ layers, unmapped }) {
  return [...layers.map((teacher, i) => ({ student: i + 1, teacher, mapped: true })),
    ...(unmapped ?? []).map(([student, teacher]) => ({ student, teacher, mapped: false }))];
}

// Numbers of the pairs of layers and of the heads to choose from: a saved page may have only some.
const layersOf = sight => sight.chosen?.layers ?? pairsOf(sight).map((_, i) => i + 1);
const headsOf = sight => sight.chosen?.heads ?? Array.from({ length: sight.heads }, (_, i) => i + 1);

class View {
  constructor(model, root) {
    Object.assign(this, { model, root });
    this.state = { seen: null, span: [0, 1], pinned: false, pending: false, lastHead: 1, printing: false };
    this.answers = new Answers();
    this.overview = new Overview(this);
    this.training = new Training(this);
    this.strip = new Strip(this);
    this.status = new Status(this);
    this.pictures = NAMES.map((_, panel) => new Picture(panel));
    this.lines = new Lines(this);
    this.controls = new Controls(this);
    this.hint = element("p", { class: "tinybert-said", hidden: true });
    this.opened = element("p", { class: "tinybert-opened", hidden: true });
    this.gallery = element("div", { class: "tinybert-pictures" }, ...this.pictures.map(one => one.figure));
    this.printed = element("p", { class: "tinybert-headline" }); // on paper, in place of the controls
    root.append(this.controls.box, this.printed, this.controls.says, element("div", { class: "tinybert-context" },
      element("div", { class: "tinybert-before" }, this.answers.box, this.overview.box),
      this.training.box, this.hint, this.opened, this.strip.box, this.status.said),
      this.gallery, this.lines.box, this.status.far);
  }

  get sight() { return this.model.get("sight"); }

  setting(name, otherwise) { return this.model.get(name) ?? otherwise; }

  ways() { return this.model.get("ways") ?? [{ name: "probabilities" }, { name: "scores" }]; }

  // What is shown of the layers: a pair, or the word for how those of the layer map are merged.
  pair() {
    const { layer } = this.sight, merge = MERGES[layer];
    return merge ? { student: merge, teacher: merge, mapped: true } : pairsOf(this.sight)[layer - 1];
  }

  // The same in words, as [teacher, student].
  layerTexts() {
    const { student, teacher } = this.pair(), { layer, layers } = this.sight, merge = MERGES[layer];
    return merge ? [layers, layers.map((_, i) => i + 1)].map(all => `${merge} of layers ${all.join(", ")}`) :
      [`layer ${teacher ?? "—"}`, `layer ${student}`];
  }

  headText() {
    const { head, heads } = this.sight;
    if (!this.state.seen.kind.heads) return "all heads together";
    if (!heads) return "the mean of all heads";
    return head > 0 ? `head ${head} of ${heads}` : `the ${head === 0 ? "mean" : "maximum"} of ${heads}`;
  }

  titles() {
    const [teacher, student] = this.layerTexts();
    return [`teacher, ${teacher}`, `student${this.when()}, ${student}`, "student minus teacher"];
  }

  // The checkpoint that is drawn, of a student that has several.
  when() {
    const found = checkpointOf(this);
    return found ? ` (${isolated(found.name)})` : "";
  }

  headline() {
    const [teacher, student] = this.layerTexts(), beside = this.state.seen.tables[0] ? `, teacher ${teacher}` : "";
    return `${wayName(this.state.seen.view)}: student${this.when()} ${student}${beside}, ${this.headText()}`;
  }

  // Queries are kept as tokens; what is drawn are units: tokens, or the words of which they are pieces.
  unitOf(token) {
    const { units } = this.state.seen;
    const found = units.findIndex(({ first, count }) => token < first + count);
    return found < 0 ? units.length - 1 : found;
  }

  row() { return this.unitOf(Math.max(this.model.get("token"), 0)); }

  rows() {
    const all = [this.model.get("token"), ...this.setting("selected", [])];
    return [...new Set(all.map(token => this.unitOf(Math.max(token, 0))))].sort((a, b) => a - b);
  }

  labelHeight() {
    return Number.parseFloat(getComputedStyle(this.pictures[1].rows).lineHeight) || 13;
  }

  // Set one value by its name, or several at once. Another sight or measure is drawn when it arrives.
  choose(name, value) {
    const values = typeof name === "string" ? { [name]: value } : name;
    for (const [key, one] of Object.entries(values)) this.model.set(key, one);
    this.model.save_changes();
    if (!["layer", "head", "checkpoint"].some(one => one in values) &&
        !("measure" in values && this.overview.awaits())) this.later();
  }

  chooseRow(place) { this.choose("token", this.state.seen.units[place].first); }

  chooseOnly(place) {
    if (this.setting("selected", []).length) this.choose("selected", []);
    this.chooseRow(place);
  }

  // Keep a token among the selected ones, or let it go.
  hold(place, always = false) {
    const token = this.state.seen.units[place].first, held = this.setting("selected", []);
    if (!held.includes(token)) this.choose("selected", [...held, token]);
    else if (!always) this.choose("selected", held.filter(other => other !== token));
  }

  toggle(place) {
    const rows = this.rows();
    if (!rows.includes(place)) {
      for (const row of [this.row(), place]) this.hold(row, true);
      return this.chooseRow(place);
    }
    if (rows.length === 1) return;
    const [token, ...selected] = rows.filter(row => row !== place).map(row => this.state.seen.units[row].first);
    this.choose({ token, selected });
  }

  isHeld() { return this.state.pinned || this.setting("selected", []).length > 0; }

  pin(pinned) {
    this.state.pinned = pinned;
    this.root.classList.toggle("tinybert-pinned", pinned);
  }

  moveTo(place) {
    const [first, count] = this.state.span, { length } = this.state.seen.units;
    place = Math.min(Math.max(place, 0), length - 1);
    if (place < first || place >= first + count) this.moveWindow(place);
    this.chooseRow(place);
  }

  moveWindow(place) {
    const { start } = this.controls, [, count] = this.state.span;
    start.value = Math.min(Math.max(0, place - (count >> 1)), start.max);
    this.later();
  }

  later() { // many changes, one drawing
    if (this.state.pending) return;
    this.state.pending = true;
    requestAnimationFrame(() => { this.state.pending = false; this.show(); });
  }

  // Compute anew what has changed; false while there is nothing to show yet.
  read() {
    const { sight, state } = this;
    if (!sight?.tokens?.length) return false;
    const key = [sight, this.model.get("view"), this.setting("words", false), this.setting("scale", "fixed")];
    if (state.read && key.every((part, i) => part === state.read[i])) return true;
    const [, view, words, scale] = key, seen = readSight(sight, view, { words, scale });
    if (!seen) return Boolean(state.seen && state.read?.[0].tokens === sight.tokens);
    if (state.read?.[0] !== sight) this.showHint(sight);
    if (sight.head > 0) state.lastHead = sight.head;
    Object.assign(state, { seen, read: key });
    return true;
  }

  showHint(sight) {
    const missing = missingLetters(sight.tokens, getComputedStyle(this.root).fontFamily);
    this.hint.hidden = !missing;
    this.hint.textContent = `No font here can draw ${missing.slice(0, 8)}: install one that can (for ` +
      "Chinese on Debian or Ubuntu fonts-noto-cjk) and load this page anew.";
  }

  // JupyterLab's own word on dark and light, where there is one; paper is white, whatever the screen is.
  setTheme() {
    const { classList } = this.root, light = document.body.dataset.jpThemeLight;
    const onPaper = this.state.printing || this.paper.matches;
    classList.toggle("tinybert-paper", onPaper);
    classList.toggle("tinybert-dark", !onPaper && (light ? light === "false" : this.scheme.matches));
    classList.toggle("tinybert-single", this.state.seen.panels.length === 1);
    return colours(this.root);
  }

  show() {
    if (!this.read()) return;
    const { state, sight } = this, { scale } = state.seen, opened = this.model.get("opened");
    this.controls.show();
    state.span = this.controls.showWindow(state.seen.size);
    const palette = this.setTheme();
    this.answers.show(sight.answers);
    this.overview.show(palette);
    this.training.show();
    this.printed.textContent = `${this.headline()}, ${scale} scale`;
    this.opened.textContent = opened ?? "";
    this.opened.hidden = !opened;
    this.strip.show(palette);
    this.pictures.forEach((picture, panel) => { picture.figure.hidden = !state.seen.tables[panel]; });
    this.lines.show(palette);
    this.status.show();
    this.showPictures(palette);
    if (this.fit()) this.showPictures(palette);
    this.root.dataset.drawn = Number(this.root.dataset.drawn ?? 0) + 1;
  }

  showPictures(palette) {
    for (const panel of this.state.seen.panels) this.pictures[panel].show(this, palette);
  }

  // In a lecture, pictures beside each other are as large as the rest of the window lets them be. True if
  // their size has changed.
  fit() {
    const { root, gallery, state } = this, shown = this.pictures.filter(({ figure }) => !figure.hidden);
    const { canvas, figure } = shown[0], tops = new Set(shown.map(each => each.figure.offsetTop));
    const around = figure.offsetHeight - canvas.offsetHeight + gallery.offsetTop + 18; // with the margin
    const side = state.lecture && tops.size === 1 && !root.classList.contains("tinybert-paper") ?
      `${Math.max(260, root.clientHeight - around)}px` : "";
    if (root.style.getPropertyValue("--tinybert-side") === side) return false;
    root.style.setProperty("--tinybert-side", side);
    return true;
  }

  // Pointers on the pictures and keys; Jupyter must not take the keys for itself: JupyterLab hears them when they
  // have bubbled up, Notebook 7 before, unless the focused element itself says so.
  listen() {
    const { root } = this;
    root.addEventListener("focusin", ({ target }) => { target.dataset.lmSuppressShortcuts = "true"; });
    root.addEventListener("keydown", event => {
      this.controls.onKey(event);
      if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
    });
    this.pictures.forEach(picture => picture.canvas.addEventListener("pointermove", event => {
      const [row, column] = picture.unitsAt(event, this.state.span);
      if (row !== this.row() && !this.isHeld()) this.chooseRow(row);
      requestAnimationFrame(() => requestAnimationFrame(() => this.status.showCell(row, column)));
    }));
  }

  // What else calls for another drawing: the model, another size, medium or theme. Gives its end.
  follow() {
    const end = new AbortController(), { signal } = end, later = () => this.later();
    const changed = ["sight", "view", "token", "selected", "words", "scale", "lines", "overview", "opened", "training"];
    for (const name of changed) this.model.on(`change:${name}`, later);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.paper = matchMedia("print");
    const resized = new ResizeObserver(later), themed = new MutationObserver(later);
    resized.observe(this.gallery);
    themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
    this.scheme.addEventListener("change", later, { signal });
    const print = event => { // no frame is drawn between this event and the printed page
      if (event.type !== "change") this.state.printing = event.type === "beforeprint";
      this.show();
    };
    this.paper.addEventListener("change", print, { signal });
    for (const name of ["beforeprint", "afterprint"]) window.addEventListener(name, print, { signal });
    document.addEventListener("keydown", event => { // a lecture has the whole window's keys
      if (this.state.lecture && !this.root.contains(event.target)) this.controls.onKey(event);
    }, { signal });
    if (this.setting("inPage", false))
      window.addEventListener("hashchange", () => fromFragment(this, location.hash), { signal });
    return () => {
      this.model.off?.(null, later);
      this.training.stop();
      resized.disconnect();
      themed.disconnect();
      end.abort();
    };
  }
}

export function draw(model, root) {
  root.classList.add("tinybert-attention");
  const view = new View(model, root), end = view.follow();
  view.listen();
  if (view.setting("inPage", false)) fromFragment(view, location.hash);
  view.show();
  return end;
}

export default {
  render({ model, el }) {
    return draw(model, el);
  },
};
