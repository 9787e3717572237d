// After: view_pictures.js
// A student through its training: a slider over its checkpoints, playing them in order, two curves.
//
// `training` holds {checkpoints: [{name, step}], label, teacher, probabilities, courses}: the class
// that the teacher holds most probable, its probability, and that of the student at each checkpoint
// (null: their kind of task has none); courses are {pair, head, values}, of each measure that is
// known a list with a value for each checkpoint. `checkpoint` is the number of the shown one, from 1.

const PAUSE = 1000; // milliseconds that a checkpoint stays while they are played
const ROOM = { left: 4.2, right: 1.2, top: 0.9, bottom: 2.7 }; // around a curve, in letters

// The numbers beside an axis that begins at 0 or `low` and ends at a round number.
function axisOf(values, low = 0) {
  const most = Math.max(...values.filter(Number.isFinite), 1e-9), ten = 10 ** Math.floor(Math.log10(most));
  const high = [1, 2, 2.5, 5, 10].map(part => part * ten).find(end => end >= most * 0.999);
  return { low, high, numbers: [low, (low + high) / 2, high] };
}

// What a curve shows: its sentence, values, axis, and the teacher's value if it has one.
function predictionCurve({ label, teacher, probabilities }) {
  return { name: "probability", values: probabilities, teacher, axis: { low: 0, high: 1, numbers: [0, 0.5, 1] },
    says: `Student's probability of “${isolated(label)}”, most probable for the teacher (dashed: its own).` };
}

function attentionCurve(view, { courses }, measure) {
  const { layer, head, layers } = view.sight, { kind } = view.state.seen;
  const own = courses.filter(({ pair }) => layer > 0 ? pair === layer : pair <= layers.length);
  const single = own.filter(course => course.head === head && head > 0 && kind.heads);
  const used = single.length ? single : own, values = used[0]?.values[measure.name]?.map((_, i) =>
    used.reduce((sum, course) => sum + course.values[measure.name][i], 0) / used.length);
  if (!values) return null; // being computed, or not in this page
  const [teacher, student] = view.layerTexts(), low = Math.min(0, ...values.filter(Number.isFinite));
  const one = single.length ? view.headText() : `the mean of ${own.length > 1 ? own.length : "all"} heads`;
  const axis = !measure.same ? axisOf(values) :
    { low: low < 0 ? -1 : 0, high: 1, numbers: low < 0 ? [-1, 0, 1] : [0, 0.5, 1] };
  const ours = layer > layers.length ? "the student layer nearest to it at each checkpoint" : `student ${student}`;
  return { name: "attention", values, axis, says: `Attention, teacher ${teacher} and ${ours}, ${one}: ` +
    `${measure.title} (${measure.same}: the same).` };
}

// A curve as a graphic of so many pixels: axes with numbers, a point for each checkpoint.
function curveGraphic({ name, values, teacher, axis, says }, names, at, wide, letter) {
  const left = ROOM.left * letter, right = wide - ROOM.right * letter, high = Math.round(8.8 * letter);
  const top = ROOM.top * letter, bottom = high - ROOM.bottom * letter, count = values.length;
  const x = place => left + (right - left) * (count > 1 ? place / (count - 1) : 0.5);
  const y = value => bottom - (bottom - top) * (value - axis.low) / (axis.high - axis.low);
  const line = (x1, y1, x2, y2, kind) => graphic("line", { x1, y1, x2, y2, class: kind });
  const text = (words, x, y, anchor) => graphic("text", { x, y, "text-anchor": anchor, fill: "currentColor",
    "dominant-baseline": "central", text: words });
  const there = values.map((value, place) => [place, value]).filter(([, value]) => Number.isFinite(value));
  const every = Math.max(1, Math.ceil(count * letter * 2 / (right - left)));
  const svg = graphic("svg", { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, "font-size": letter,
    role: "img", "data-curve": name, "aria-label": `${says} ${there.map(([place, value]) =>
      `${isolated(names[place])}: ${formatted(value, axis.high)}`).join(", ")}` });
  svg.append(...axis.numbers.flatMap(value => [line(left, y(value), right, y(value), "tinybert-axis"),
    text(tickText(value), left - letter / 2, y(value), "end")]),
    line(x(at), top - letter / 2, x(at), bottom + letter / 2, "tinybert-present"));
  if (Number.isFinite(teacher)) svg.append(line(left, y(teacher), right, y(teacher), "tinybert-goal"));
  svg.append(graphic("polyline", { points: there.map(([place, value]) => `${x(place)},${y(value)}`).join(" "),
    class: "tinybert-course" }), ...there.map(([place, value]) => graphic("circle", { cx: x(place), cy: y(value),
    r: letter * (place === at ? 0.42 : 0.26), class: place === at ? "tinybert-point tinybert-now" : "tinybert-point",
    "data-value": value }, graphic("title", { text: `${names[place]}: ${formatted(value, axis.high)}` }))),
    ...values.map((_, place) => place % every && place !== count - 1 || place > count - 1 - every && place < count - 1 ?
      "" : text(String(place + 1), x(place), bottom + letter, "middle")),
    text("checkpoint", (left + right) / 2, bottom + 2.1 * letter, "middle"));
  return svg;
}

class Training {
  constructor(view) {
    this.view = view;
    const button = (name, text, label) => element("button", { type: "button", "data-control": name, text, "aria-label": label });
    this.back = button("earlier", "◂", "previous checkpoint (Shift+N)");
    this.next = button("later", "▸", "next checkpoint (N)");
    this.play = button("play", "Play (P)", "");
    this.play.removeAttribute("aria-label");
    this.slider = element("input", { type: "range", min: 1, step: 1, "data-control": "checkpoint" });
    this.name = element("output", { class: "tinybert-moment" });
    this.curves = element("div", { class: "tinybert-curves" });
    this.box = element("div", { class: "tinybert-training", role: "group", "aria-label": "through training" },
      element("div", {}, element("div", { class: "tinybert-line" },
        named("Checkpoint", this.back, this.slider, this.next), this.play), this.name), this.curves);
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.listen();
  }

  get names() { return this.view.model.get("training").checkpoints.map(({ name }) => name); }

  get at() { return this.view.model.get("checkpoint") ?? this.names.length; }

  listen() {
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    this.back.addEventListener("click", () => this.go(this.at - 1));
    this.next.addEventListener("click", () => this.go(this.at + 1));
    this.play.addEventListener("click", () => this.toggle());
    this.curves.addEventListener("click", event => this.goTo(event));
  }

  // Another checkpoint, by its number; whoever chooses one ends the playing.
  go(number, playing = false) {
    const { view } = this, { length } = this.names;
    if (!playing) this.stop();
    number = Math.min(Math.max(number, 1), length);
    if (number !== this.at) view.choose("checkpoint", number);
    this.showName();
  }

  // The checkpoint whose point is nearest to a click on a curve.
  goTo(event) {
    const svg = event.target.closest("svg");
    if (!svg) return;
    const { left, width } = svg.getBoundingClientRect(), wide = svg.viewBox.baseVal.width, letter = this.letter();
    const first = ROOM.left * letter, last = wide - ROOM.right * letter;
    const share = ((event.clientX - left) * wide / width - first) / (last - first);
    this.go(1 + Math.round(share * (this.names.length - 1)));
  }

  letter() { return Number.parseFloat(getComputedStyle(this.curves).fontSize) || 11; }

  // From the shown checkpoint to the last one, or from the first if the last is shown. Where the
  // system asks for less motion, a press shows one more checkpoint and nothing moves by itself.
  toggle() {
    if (this.timer) return this.stop();
    const { length } = this.names, first = this.at >= length ? 1 : this.at + 1;
    this.go(first, true);
    if (this.calm.matches || first >= length) return;
    this.timer = setInterval(() => this.advance(), PAUSE);
    this.showName();
  }

  advance() {
    const { view } = this;
    if (!view.root.isConnected || !this.isThere()) return this.stop();
    if (view.sight.checkpoint !== undefined && view.sight.checkpoint !== this.at) return; // still being computed
    this.go(this.at + 1, true);
    if (this.at >= this.names.length) this.stop();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.setAttribute("aria-pressed", "false");
    this.play.textContent = "Play (P)";
  }

  isThere() { return (this.view.model.get("training")?.checkpoints?.length ?? 0) > 1; }

  showName() {
    const { names, at } = this, { step } = this.view.model.get("training").checkpoints[at - 1];
    const updates = step && !names[at - 1].includes(String(step)) ? `, ${step} updates` : "";
    this.slider.max = names.length;
    this.slider.value = at;
    this.slider.setAttribute("aria-valuetext", `${at} of ${names.length}: ${names[at - 1]}`);
    this.name.textContent = `${at} of ${names.length}: ${isolated(names[at - 1])}${updates}`;
    this.back.disabled = at <= 1;
    this.next.disabled = at >= names.length;
    this.play.setAttribute("aria-pressed", String(Boolean(this.timer)));
    this.play.textContent = this.timer ? "Pause (P)" : this.calm.matches ? "Step (P)" : "Play (P)";
  }

  show() {
    const { view } = this, there = this.isThere();
    this.box.hidden = !there;
    if (!there) return this.timer ? this.stop() : undefined;
    this.showName();
    const training = view.model.get("training"), overview = view.model.get("overview");
    const measure = overview?.measures?.find(({ name }) => name === view.setting("measure")) ?? overview?.measures?.[0];
    const attention = measure && attentionCurve(view, training, measure);
    const curves = [training.label === null ? null : predictionCurve(training), attention].filter(Boolean);
    if (measure && !attention && this.curves.children.length) return; // the measure is on its way
    const letter = this.letter(), room = this.box.clientWidth || 320;
    const wide = room < 38 * letter ? Math.min(room, 32 * letter) : Math.min(28 * letter, room / 2 - 12);
    const key = JSON.stringify([curves, this.names, this.at, wide, letter]);
    if (this.key === key) return;
    this.key = key;
    this.curves.replaceChildren(...curves.map(curve => {
      const figure = element("figure", {}, curveGraphic(curve, this.names, this.at - 1, wide, letter),
        element("figcaption", { text: curve.says }));
      figure.style.width = `${wide}px`;
      return figure;
    }));
  }
}
