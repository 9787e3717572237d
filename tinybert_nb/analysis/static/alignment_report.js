// After: attention_view.js
// The attention views of a report opened from disk: the data that a kernel sends in JupyterLab
// comes from the page itself. Each place holds the name of a JSON block with the lists of `sight`,
// and base64 of float16 numbers for each model:
//   teacher, student   scores (pairs of layers, heads, query, key)
//   norms              factors of value-weighted attention (pairs of layers, heads, key)
//   tables             of each way without heads, (pairs of layers, query, key); of every way, and no
//                      scores, where only the mean of the heads is shown

function fromHalves(bytes) {
  const halves = new Uint16Array(bytes.slice().buffer);
  return Float32Array.from(halves, half => {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, rest = half & 1023;
    if (exponent === 31) return rest ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + rest / 1024) * 2 ** (exponent - 15) : rest * 2 ** -24);
  });
}

// Reads the numbered part of `count` numbers from a base64 text.
function partsOf(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return (number, count) => fromHalves(bytes.slice(2 * number * count, 2 * (number + 1) * count));
}

const SIDES = ["teacher", "student"];

// What the data hold for both models: `read(side)` gives the table of a way, layer and head.
function partsOfModels(data) {
  const area = data.tokens.length ** 2, size = data.tokens.length;
  return SIDES.map((side, i) => {
    const scores = data[side] && partsOf(data[side]), norms = data.norms && partsOf(data.norms[side]);
    const tables = Object.fromEntries(Object.entries(data.tables ?? {}).map(([way, sides]) => [way, partsOf(sides[side])]));
    const windows = layer => data.windows[layer - 1][i];
    const at = (layer, head) => (layer - 1) * data.heads + head - 1;
    const scoresOf = (layer, head) => scores(at(layer, head), area);
    const factorsOf = (layer, head) => norms?.(at(layer, head), size);
    const tableOf = (way, layer, head) => tables[way] ? tables[way](layer - 1, area) : tableOfHead(way, scoresOf(layer, head),
      factorsOf(layer, head), size, windows(layer));
    return { scoresOf, factorsOf, tableOf };
  });
}

// What the view is shown for these values: one head, or the tables of a way without heads.
function sightOfParts(data, models, { layer, head, view }) {
  const heads = Array.from({ length: data.heads }, (_, i) => i + 1);
  const sight = { ...data, layer, head, view, merges: true, tables: null, norms: null, teacher: true };
  if (!WAYS[view].heads || !data.heads) sight.tables = models.map(({ tableOf }) => tableOf(view, layer));
  else if (head < 1) sight.tables = models.map(({ tableOf }) => mergeTables(
    heads.map(one => tableOf(view, layer, one)), head === 0 ? "mean" : "maximum"));
  else {
    [sight.teacher, sight.student] = models.map(({ scoresOf }) => scoresOf(layer, head));
    sight.norms = data.norms && models.map(({ factorsOf }) => factorsOf(layer, head));
  }
  return sight;
}

function modelOf(data, name) {
  const models = partsOfModels(data), { layer, head, token, ways, overview, opened } = data;
  const values = { layer, head, view: "probabilities", token, ways, overview, opened, name, inPage: true };
  const listeners = [], sight = () => sightOfParts(data, models, values);
  values.sight = sight();
  return {
    get: name => values[name],
    set(name, value) {
      values[name] = value;
      if (["layer", "head", "view"].includes(name)) values.sight = sight();
    },
    save_changes: () => new Set(listeners).forEach(listener => listener()),
    on: (name, listener) => listeners.push(listener),
  };
}

for (const place of document.querySelectorAll("[data-sight]")) {
  const name = place.dataset.sight;
  draw(modelOf(JSON.parse(document.getElementById(name).textContent), name), place);
}
