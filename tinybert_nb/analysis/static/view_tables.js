// After: view_elements.js
// From scores to the tables that are shown. A table is (query, key), row by row, as Float32Array.

const NAMES = ["teacher", "student", "difference"];
// What the script knows of each way of looking: whether it has values below 0, whether colours take
// the root, how columns of a word's pieces are joined, whether it has heads, and where its colours
// end if that is the same for every text.
const WAYS = {
  probabilities: { signed: false, root: true, joins: "sum", heads: true, end: 1 },
  scores: { signed: true, root: false, joins: "mean", heads: true },
  "value-weighted": { signed: false, root: true, joins: "sum", heads: true },
  rollout: { signed: false, root: true, joins: "sum", heads: false, end: 1 },
  cosine: { signed: true, root: false, joins: "mean", heads: false, end: 1 },
};

// In each row only the tokens within the window get a probability (null: all do).
function softmaxRows(scores, size, window) {
  const shares = new Float32Array(scores.length);
  for (let row = 0; row < size; row++) {
    const from = row * size, first = Math.max(0, row + 1 - (window ?? size));
    const end = Math.min(size, row + (window ?? size));
    let most = -Infinity, sum = 0;
    for (let i = first; i < end; i++) most = Math.max(most, scores[from + i]);
    for (let i = first; i < end; i++) sum += shares[from + i] = Math.exp(scores[from + i] - most);
    for (let i = first; i < end; i++) shares[from + i] /= sum;
  }
  return shares;
}

// One head's table, from its scores and, for value-weighted attention, a factor for each key.
function tableOfHead(way, scores, factors, size, window) {
  if (way === "scores") return !window ? scores : scores.map((score, i) =>
    Math.abs(Math.floor(i / size) - (i % size)) < window ? score : NaN);
  const shares = softmaxRows(scores, size, window);
  return way === "value-weighted" ? shares.map((share, i) => share * factors[i % size]) : shares;
}

// How several heads, or layers, are one: by their numbers in the data.
const MERGES = { 0: "mean", "-1": "maximum" };

// The tables of several heads or layers as one: "mean" or "maximum" of the numbers that exist.
function mergeTables(tables, how) {
  return tables[0].map((_, i) => {
    let merged = how === "mean" ? 0 : -Infinity, count = 0;
    for (const table of tables) if (!Number.isNaN(table[i])) {
      merged = how === "mean" ? merged + table[i] : Math.max(merged, table[i]);
      count++;
    }
    return count ? merged / (how === "mean" ? count : 1) : NaN;
  });
}

// What has a row and a column: each token, or each word with the tokens that it consists of.
function unitsOf({ tokens, segments, words }, whole) {
  const parts = whole && words ? words : tokens.map((text, first) => [text, first, first + 1]);
  return parts.map(([text, first, end]) => ({ text, first, count: end - first, segment: segments[first] }));
}

// A table of tokens as one of words: from a word the mean over its tokens, to it their sum or mean.
// Numbers that do not exist (scores outside of a window) do not count.
function joinTable(table, units, joins) {
  const size = units.length, long = Math.sqrt(table.length);
  if (size === long) return table;
  const joined = new Float32Array(size * size);
  units.forEach((query, row) => units.forEach((key, column) => {
    let sum = 0, count = 0;
    for (let i = query.first; i < query.first + query.count; i++)
      for (let j = key.first; j < key.first + key.count; j++) {
        const value = table[i * long + j];
        if (!Number.isNaN(value)) { sum += value; count++; }
      }
    joined[row * size + column] = sum / (joins === "sum" && count ? query.count : count);
  }));
  return joined;
}

// Both models' tables of tokens, or null while this way is still being computed elsewhere.
function tokenTables(sight, way) {
  const size = sight.tokens.length, windows = sight.windows?.[sight.layer - 1] ?? [null, null];
  if (sight.tables) return sight.view === way ? sight.tables.map(data => data && floats(data)) : null;
  if (!WAYS[way].heads || sight.head < 1 || (way === "value-weighted" && !sight.norms)) return null;
  return [sight.teacher, sight.student].map((data, i) => data && tableOfHead(
    way, floats(data), sight.norms && floats(sight.norms[i]), size, windows[i]));
}

function largestOf(tables) {
  return tables.reduce((most, table) => (table ?? []).reduce((top, value) =>
    Math.max(top, Math.abs(value) || 0), most), 0);
}

// What is shown: units, three tables, and for each the value at the end of its colours. On the fixed
// scale that value is the same for every head and layer, for both models and for their difference;
// on the automatic one it is the largest value here, of both models, and of the difference its own.
function readSight(sight, view, { words, scale }) {
  const tokens = tokenTables(sight, view);
  if (!tokens) return null;
  const units = unitsOf(sight, words), size = units.length, kind = WAYS[view];
  const tables = tokens.map(table => table && joinTable(table, units, kind.joins));
  tables.push(tables[0] && tables[1].map((value, i) => value - tables[0][i]));
  const panels = [0, 1, 2].filter(panel => tables[panel]);
  const computed = [0, 1].filter(panel => tables[panel] && !Number.isNaN(tables[panel][0]));
  const fixed = kind.end ?? sight.ends?.[view] ?? sight.largest;
  const found = scale === "automatic" ? [largestOf(tables.slice(0, 2)), largestOf(tables.slice(2))] :
    [fixed, fixed];
  const ends = [found[0], found[0], found[1]].map(end => end || 1);
  return { view, kind, units, size, tables, panels, computed, ends, scale };
}

// The attention of several queries: their rows added; of scores and cosines, whose sums mean
// nothing, the mean of those that exist.
function sumRows(seen, panel, rows) {
  const table = seen.tables[panel], { size } = seen;
  return Float32Array.from({ length: size }, (_, column) => {
    const values = rows.map(row => table[row * size + column]);
    if (seen.kind.joins === "sum") return values.reduce((sum, value) => sum + value, 0);
    const there = values.filter(value => !Number.isNaN(value));
    return there.reduce((sum, value) => sum + value, 0) / there.length;
  });
}
