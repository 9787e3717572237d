// After: tokenizer.js bert.js attention_view.js
// A page in which a student, and its teacher if there is one, reads what is typed: label,
// probabilities, attention.
//
// The page holds `settings` as JSON and the weights of each side as base64; nothing is fetched.

const byId = name => document.getElementById(name);
const settings = JSON.parse(byId("settings").textContent);
const QUIET = 150; // milliseconds without a key before the teacher begins
const MOST = 8; // classes of which a bar is drawn

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  return Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
}

const pause = milliseconds => new Promise(done => setTimeout(done, milliseconds));

// What the logits say: names with their probabilities, a number, or a class for each word.
function answersOf({ meaning, labels }, logits) {
  const sigmoid = x => 1 / (1 + Math.exp(-x));
  const shares = meaning === "classes" ? Array.from(logits, sigmoid) : [...softmax(logits.slice())];
  const rows = labels.map((name, i) => ({ name, share: shares[i], logit: logits[i] }));
  const best = rows.reduce((a, b) => (b.logit > a.logit ? b : a));
  const chosen = meaning === "class" ? [best] : meaning === "number" ? rows :
    rows.filter(({ logit }) => logit > 0); // the threshold of the training is in the bias
  return { rows, chosen, best };
}

// One model with its tokenizer, and the card in which its answer stands.
class Side {
  constructor(name, tokenizer) {
    Object.assign(this, settings[name]);
    this.tokenizer = tokenizer ?? new Tokenizer(this.tokenizer, settings.characters);
    this.model = new Bert(this.bert, bytesOf(byId(`${name}-weights`).textContent));
    byId(`${name}-weights`).remove(); // the text has done its duty
    this.head = element("p", { class: "label" });
    this.list = element("ul", { class: "bars" });
    this.cost = element("p", { class: "cost" });
    this.card = element("section", { class: "card", "data-side": name, "aria-live": "polite" },
      element("h2", { text: name === "student" ? "Student" : "Teacher" }),
      element("p", { class: "name", text: this.name }), this.head, this.list, this.cost);
    byId("answers").append(this.card);
  }

  encode(text, second) {
    return this.tokenizer.encode(text, second);
  }

  show(read, milliseconds) {
    this.card.classList.remove("waiting");
    const { dropped, tokens } = read;
    this.cost.textContent = `${tokens.length} tokens, ${milliseconds.toFixed(1)} ms` +
      (dropped ? `; ${dropped} more did not fit and were cut off` : "");
    if (this.meaning === "tags") return this.showTags(read);
    const { rows, chosen } = answersOf(this, read.logits);
    this.head.textContent = this.meaning === "number" ?
      chosen.map(({ name, logit }) => `${name} ${logit.toFixed(3)}`).join(", ") :
      chosen.map(({ name }) => name).join(", ") || "no class";
    if (this.meaning === "number") return;
    const shown = rows.length <= MOST ? rows :
      rows.toSorted((a, b) => b.share - a.share).slice(0, MOST);
    this.list.replaceChildren(...shown.map(row => bar(row, chosen.includes(row))));
    if (shown.length < rows.length)
      this.list.append(element("li", { text: `and ${rows.length - shown.length} more classes` }));
  }

  // A word has the class of its first token.
  showTags({ words, wordOf, logits }) {
    const count = this.labels.length;
    this.list.replaceChildren(...words.map((word, place) => {
      const at = wordOf.indexOf(place) * count;
      if (at < 0) return element("li", { text: `${word} –` });
      const { best } = answersOf({ ...this, meaning: "class" }, logits.subarray(at, at + count));
      return element("li", {}, element("span", { text: word }), " ", element("b", { text: best.name }),
        ` ${(100 * best.share).toFixed(0)}%`);
    }));
  }
}

function bar({ name, share }, chosen) {
  const fill = element("span", { class: "fill" });
  fill.style.width = `${100 * share}%`;
  return element("li", { class: chosen && "chosen" }, element("span", { class: "class", text: name }),
    element("span", { class: "track", "aria-hidden": "true" }, fill),
    element("span", { class: "percent", text: `${(100 * share).toFixed(1)}%` }));
}

// The attention of one layer, as attention_view.js takes it; head 0 is the mean of all, -1 their maximum.
function sightOf({ layer, head, view }, student, teacher) {
  const size = student.tokens.length, area = size * size, { heads } = settings.student.bert;
  const compared = teacher && teacher.tokens.join(" ") === student.tokens.join(" ");
  const scores = [
    compared && (teacher.scores ? teacher.scores[settings.layers[layer - 1] - 1] : null),
    student.scores[layer - 1]];
  const missing = new Float32Array(area).fill(NaN); // the teacher is still at work
  const tables = scores.map(read => {
    if (!read) return compared ? missing : null;
    const each = Array.from({ length: heads }, (_, i) => read.subarray(i * area, (i + 1) * area));
    if (head > 0) return each[head - 1];
    return mergeTables(each.map(one => tableOfHead(view, one, null, size, null)), head ? "maximum" : "mean");
  });
  const largest = read => largestOf(read?.scores ?? []);
  return {
    tokens: student.tokens, segments: student.types, layers: settings.layers, layer, heads, head, view,
    merges: true, windows: settings.layers.map(() => [null, null]),
    largest: Math.max(largest(student), compared ? largest(teacher) : 0),
    teacher: tables[0], student: tables[1], tables: head > 0 ? null : tables,
  };
}

const student = new Side("student");
let teacher = null; // its weights are unpacked after the student has answered for the first time
let latest = 0; // the number of the last text
const current = { student: null, teacher: null };
const values = { layer: settings.layers.length, head: 0, view: "probabilities", token: 0, inPage: true };
const listeners = new Set();
const shown = {
  get: name => values[name],
  set(name, value) {
    values[name] = value;
    if (["layer", "head", "view"].includes(name)) look();
  },
  save_changes: () => listeners.forEach(listener => listener()),
  on: (name, listener) => listeners.add(listener),
};

function look() {
  values.sight = sightOf(values, current.student, current.teacher);
  byId("other-tokens").hidden = !current.teacher ||
    current.teacher.tokens.join(" ") === current.student.tokens.join(" ");
}

function read() {
  const number = ++latest, text = byId("text").value;
  const second = byId("second")?.value.trim() ? byId("second").value : null; // empty: a single text
  const started = performance.now(), encoded = student.encode(text, second);
  current.student = { ...encoded, ...student.model.forward(encoded) };
  student.show(current.student, performance.now() - started);
  current.teacher = settings.teacher ? (teacher ?? student).encode(text, second) : null;
  teacher?.card.classList.add("waiting");
  look();
  shown.save_changes();
  if (settings.teacher) teach(number, text, second);
}

// The teacher reads the text when nothing was typed for a moment, and stops if something is.
async function teach(number, text, second) {
  await pause(teacher ? QUIET : 0);
  if (number !== latest) return;
  teacher ??= new Side("teacher", settings.teacher.tokenizer ? null : student.tokenizer);
  const encoded = teacher.encode(text, second), steps = teacher.model.steps(encoded);
  let step, spent = 0;
  do {
    const started = performance.now();
    step = steps.next();
    spent += performance.now() - started;
    await pause(0);
    if (number !== latest) return;
  } while (!step.done);
  current.teacher = { ...encoded, ...step.value };
  teacher.show(current.teacher, spent);
  look();
  shown.save_changes();
}

for (const name of ["text", "second"]) byId(name)?.addEventListener("input", read);
read();
draw(shown, byId("attention"));

// For the console, and for tests: tinybert.student.encode("a text"), .model.forward(...).
globalThis.tinybert = { student, get teacher() { return teacher; } };
