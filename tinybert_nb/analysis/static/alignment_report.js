// After: attention_view.js
// The attention views of a page opened from disk: the data that a kernel sends in JupyterLab come
// from the page itself. Each place holds the name of a JSON block with the lists of `sight`,
//   state      what is shown first: view, selected, words, scale, lines, measure
//   chosen     {layers, heads}: the pairs of layers and the heads that the page has, from 1
// and for "teacher" and "student" each
//   layers     of each such pair, the place of its table in `tables`
//   places     of each such pair and head, the place of its numbers in `scores` and `norms`
//   scores     of each head (query, key); norms: its factors of value-weighted attention (key)
//   tables     of each way without heads (query, key); of every way, and no scores, where only the
//              mean of the heads is shown
// A student at several checkpoints has `parts`, for each of them what is its own: unmapped, windows,
// answers, overview, student, and the places of the teacher's heads; `checkpoint` is shown first.
// Numbers are {low, high, text}: two characters for each, twelve bits between the ends of its table.

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const VALUES = new Uint8Array(128);
[...LETTERS].forEach((letter, value) => { VALUES[letter.charCodeAt(0)] = value; });
const STEPS = 4094; // the number of a table's largest value; the next one is NaN

// The table at a place, of `count` numbers.
function unpacked({ low, high, text }, place, count) {
  const [least, step] = [low[place], (high[place] - low[place]) / STEPS];
  return Float32Array.from({ length: count }, (_, i) => {
    const at = 2 * (place * count + i), number = 64 * VALUES[text.charCodeAt(at)] + VALUES[text.charCodeAt(at + 1)];
    return number > STEPS ? NaN : least + number * step;
  });
}

const SIDES = ["teacher", "student"];

// What the data hold for both models: `tableOf` gives the table of a way, layer and head.
function partsOfModels(data) {
  const size = data.tokens.length, { layers, heads } = data.chosen;
  return SIDES.map((side, i) => {
    const held = data[side], at = (layer, head) => held.places[layers.indexOf(layer)][heads.indexOf(head)];
    const scoresOf = (layer, head) => unpacked(held.scores, at(layer, head), size * size);
    const factorsOf = (layer, head) => held.norms && unpacked(held.norms, at(layer, head), size);
    const tableOf = (way, layer, head) => held.tables[way] ?
      unpacked(held.tables[way], held.layers[layers.indexOf(layer)], size * size) :
      tableOfHead(way, scoresOf(layer, head), factorsOf(layer, head), size, data.windows[layer - 1][i]);
    return { scoresOf, factorsOf, tableOf };
  });
}

// What the view is shown for these values: one head, or the tables of a way without heads.
function sightOfParts(data, models, { layer, head, view }) {
  const { heads } = data.chosen, merged = (numbers, number, tableOf) =>
    number > 0 ? tableOf(number) : mergeTables(numbers.map(tableOf), MERGES[number]);
  const sight = { ...data, layer, head, view, tables: null, norms: null, teacher: true, student: true };
  if (layer < 1 || head < 1 || !WAYS[view].heads) sight.tables = models.map(({ tableOf }) =>
    merged(data.layers.map((_, i) => i + 1), layer, number => WAYS[view].heads && heads.length ?
      merged(heads, head, one => tableOf(view, number, one)) : tableOf(view, number)));
  else {
    [sight.teacher, sight.student] = models.map(({ scoresOf }) => scoresOf(layer, head));
    if (data.student.norms) sight.norms = models.map(({ factorsOf }) => factorsOf(layer, head));
  }
  return sight;
}

function modelOf(data, name) {
  const whole = (data.parts ?? [{}]).map(part =>
    ({ ...data, ...part, parts: null, teacher: { ...data.teacher, ...part.teacher } }));
  const models = whole.map(() => null), { layer, head, token, ways, opened, checkpoint, training } = data;
  const values = { layer, head, view: "probabilities", token, checkpoint, ...data.state, ways, opened, name, training,
    inPage: true }, listeners = [];
  const turn = () => {
    const at = data.parts ? values.checkpoint - 1 : 0, found = whole[at];
    values.overview = found.overview;
    values.sight = sightOfParts({ ...found, checkpoint: values.checkpoint }, models[at] ??= partsOfModels(found), values);
  };
  turn();
  return {
    get: name => values[name],
    set(name, value) {
      values[name] = value;
      if (name === "checkpoint") values.opened = "";
      if (["layer", "head", "view", "checkpoint"].includes(name)) turn();
    },
    save_changes: () => new Set(listeners).forEach(listener => listener()),
    on: (name, listener) => listeners.push(listener),
  };
}

// One view of texts that follow each other: what is chosen for one is kept for the next. Gives the
// function that shows the data of a text.
const KEPT = ["view", "words", "scale", "lines", "measure", "checkpoint"];

function successive(place, name) {
  const listeners = [];
  let current = null;
  const shown = {
    get: key => current.get(key),
    set: (key, value) => current.set(key, value),
    save_changes: () => new Set(listeners).forEach(listener => listener()),
    on: (_, listener) => listeners.push(listener),
  };
  return data => {
    const before = current, ways = data.ways.map(way => way.name);
    current = modelOf(data, name);
    for (const key of KEPT) {
      const value = before?.get(key);
      if (value !== undefined && (key !== "view" || ways.includes(value))) current.set(key, value);
    }
    if (before) shown.save_changes();
    else draw(shown, place);
  };
}

for (const place of document.querySelectorAll("[data-sight]")) {
  const name = place.dataset.sight;
  draw(modelOf(JSON.parse(document.getElementById(name).textContent), name), place);
}
