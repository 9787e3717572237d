// After: view_pictures.js view_lines.js
// What is shown, as a file: SVG with real text, PNG, CSV and JSON of the numbers, and a link.

const CELL = 18; // height of a row in an exported picture
const STATE = ["layer", "head", "view", "token", "selected", "words", "scale", "lines", "measure",
  "checkpoint"];

// One row for each number that can be seen.
function shownRows(view) {
  const { seen, span: [first, count] } = view.state, { head } = view.sight, pair = view.pair();
  const places = seen.units.map((_, place) => place).slice(first, first + count), rows = [];
  const moment = checkpointOf(view), when = moment ? { checkpoint: moment.name, step: moment.step } : {};
  for (const panel of seen.panels) for (const query of places) for (const key of places)
    rows.push({ ...when, model: NAMES[panel], layer: panel === 0 ? pair.teacher : pair.student,
      head: !seen.kind.heads ? null : MERGES[head] ?? head,
      way: seen.view, query: seen.units[query].text, query_position: seen.units[query].first,
      key: seen.units[key].text, key_position: seen.units[key].first,
      value: seen.tables[panel][query * seen.size + key] });
  return rows;
}

// The checkpoint that is drawn: {name, step}; undefined where there is only one.
const checkpointOf = view => view.model.get("training")?.checkpoints?.[(view.sight.checkpoint ?? 0) - 1];

// Quoted where it must be. A cell that a spreadsheet would take for a formula begins with a space.
function csvText(rows) {
  const quoted = value => {
    const text = typeof value === "string" && /^[=+@\-]/.test(value) ? ` ${value}` : String(value ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const columns = Object.keys(rows[0]);
  return [columns, ...rows.map(row => columns.map(name => row[name]))]
    .map(cells => cells.map(quoted).join(",")).join("\r\n") + "\r\n";
}

function jsonText(view) {
  const { seen } = view.state, { answers } = view.sight;
  const about = { way: seen.view, ...view.pair(), head: view.sight.head, checkpoint: checkpointOf(view)?.name,
    scale: seen.scale, ends: seen.ends, tokens: seen.units.map(({ text }) => text), answers };
  return JSON.stringify({ about, rows: shownRows(view) }, null, 1);
}

function words(text, x, y, more = {}) {
  return graphic("text", { x, y, "dominant-baseline": "central", fill: "currentColor", ...more, text });
}

// A picture of one panel; cells that have the colour of the ground are left out.
function panelGraphic(view, panel, palette, room, side) {
  const { seen, span: [first, count] } = view.state, cell = side / count, group = graphic("g");
  const texts = seen.units.slice(first, first + count).map(({ text }) => cutText(text, 14));
  const thin = Math.max(1, Math.ceil(12 / cell)), ground = css(palette.ground);
  for (let row = 0; row < count; row++) for (let column = 0; column < count; column++) {
    const value = seen.tables[panel][(first + row) * seen.size + first + column];
    const colour = css(shade(seen, panel, value, palette));
    if (colour !== ground) group.append(graphic("rect", { x: (column * cell).toFixed(2),
      y: (row * cell).toFixed(2), width: cell.toFixed(2), height: cell.toFixed(2), fill: colour }));
  }
  group.append(graphic("rect", { width: side, height: side, fill: "none", stroke: "currentColor" }));
  texts.forEach((text, place) => {
    if (place % thin) return;
    const middle = (place + 0.5) * cell;
    group.append(words(text, -5, middle, { "text-anchor": "end" }), words(text, 0, 0,
      { transform: `translate(${middle} ${side + 5}) rotate(-90)`, "text-anchor": "end" }));
  });
  group.append(words(view.titles()[panel], 0, -14, { "font-weight": "bold", "font-size": 13 }));
  group.append(scaleGraphic(seen, panel, palette, side, side + room + 14));
  return group;
}

function scaleGraphic(seen, panel, palette, side, y) {
  const name = `colours-${panel}`, stops = scaleStops(seen, panel, palette);
  const gradient = graphic("linearGradient", { id: name }, ...stops.map((colour, i) =>
    graphic("stop", { offset: i / (stops.length - 1), "stop-color": css(colour) })));
  const numbers = ticks(seen, panel).map(([value, place]) =>
    words(tickText(value), place * side, y + 20, { "text-anchor": "middle" }));
  return graphic("g", {}, gradient, words(scaleText(seen, panel), 0, y - 9),
    graphic("rect", { y, width: side, height: 10, fill: `url(#${name})`, stroke: "currentColor" }), ...numbers);
}

// The whole picture, and the lines below it if they are shown.
function svgOf(view) {
  const { seen, span } = view.state, palette = colours(view.root), style = getComputedStyle(view.root);
  const room = 100, side = Math.max(220, Math.min(span[1], 64) * CELL), wide = side + room + 24;
  const tall = side + room + 86, lines = view.setting("lines", false);
  const more = lines ? span[1] * CELL + 60 : 0, panels = seen.panels;
  const svg = graphic("svg", { width: panels.length * wide, height: tall + more + 20,
    viewBox: `0 0 ${panels.length * wide} ${tall + more + 20}`, "font-size": 11,
    "font-family": "system-ui, Noto Sans, sans-serif", color: style.color },
    graphic("title", { text: view.headline() }),
    graphic("rect", { width: "100%", height: "100%", fill: css(palette.ground) }),
    words(view.headline(), 8, 14, { "font-size": 13 }));
  panels.forEach((panel, i) => {
    const group = panelGraphic(view, panel, palette, room, side);
    group.setAttribute("transform", `translate(${i * wide + room} 52)`);
    svg.append(group);
    if (!lines || panel === 2) return;
    const drawn = linesOf(seen, panel, view.rows(), span, palette, lineFrame(span, CELL, wide - 20));
    for (const [key, value] of Object.entries({ x: i * wide + 10, y: tall + 40 })) drawn.setAttribute(key, value);
    svg.append(words(`${NAMES[panel]}: from the selected tokens`, i * wide + 10, tall + 26), drawn);
  });
  return svg;
}

function save(name, content) {
  const address = URL.createObjectURL(content);
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// A vector graphic as a picture of twice its size.
async function pngOf(svg) {
  const text = new XMLSerializer().serializeToString(svg), picture = new Image();
  picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  await picture.decode();
  const [width, height] = ["width", "height"].map(name => 2 * Number(svg.getAttribute(name)));
  const canvas = element("canvas", { width, height });
  canvas.getContext("2d").drawImage(picture, 0, 0, width, height);
  return new Promise(done => canvas.toBlob(done, "image/png"));
}

// A file name that says what is shown.
function fileName(view, ending) {
  const { student, teacher } = view.pair(), { seen } = view.state;
  const parts = ["attention", `student-${student}`, teacher && `teacher-${teacher}`,
    seen.kind.heads && view.headText().replaceAll(" ", "-"), seen.view,
    view.setting("words", false) && "words", view.sight.checkpoint && `checkpoint-${view.sight.checkpoint}`];
  return `${parts.filter(Boolean).join("_")}.${ending}`;
}

// The state as the fragment of an address, and back. `name` tells the views of a page apart.
function toFragment(view) {
  const pairs = STATE.map(name => [name, view.setting(name)]).filter(([, value]) =>
    value != null && value !== false && String(value) !== "");
  return `#${view.setting("name", "view")}?${new URLSearchParams(pairs)}`;
}

function fromFragment(view, fragment) {
  const [name, query] = fragment.slice(1).split("?");
  if (name !== view.setting("name", "view") || !query) return;
  const found = new URLSearchParams(query), whole = text => Number.parseInt(text, 10);
  const read = { layer: whole, head: whole, token: whole, checkpoint: whole, view: text => text in WAYS ? text : "probabilities",
    selected: text => text.split(",").map(whole), words: text => text === "true",
    lines: text => text === "true", scale: text => text === "automatic" ? text : "fixed", measure: text => text };
  const state = Object.fromEntries(STATE.filter(key => found.has(key)).map(key => [key, read[key](found.get(key))]));
  view.choose(possible(view, state));
}

// A link may have been changed by hand, or be of another page: only what can be shown is kept.
function possible(view, state) {
  const { sight } = view, tokens = sight.tokens.map((_, i) => i);
  const there = { layer: [...layersOf(sight), ...sight.layer_merges ? [0, -1] : []], token: tokens,
    checkpoint: (view.model.get("training")?.checkpoints ?? []).map((_, i) => i + 1),
    head: [...headsOf(sight), ...sight.merges ? [0, -1] : headsOf(sight).length ? [] : [0]] };
  const fits = (name, value) => there[name].includes(value);
  return Object.fromEntries(Object.entries(state).filter(([name, value]) =>
    name === "view" ? view.ways().some(way => way.name === value) :
      name === "selected" ? value.every(token => fits("token", token)) : !(name in there) || fits(name, value)));
}

// The state as a call in Python.
function toPython(view) {
  const written = value => value === true ? "True" : value === false ? "False" : JSON.stringify(value);
  const parts = STATE.map(name => [name, view.setting(name)]).filter(([, value]) => value != null);
  return `restore(${parts.map(([name, value]) => `${name}=${written(value)}`).join(", ")})`;
}

class Export {
  constructor(view) {
    this.view = view;
    const button = (text, act) => {
      const made = element("button", { type: "button", text, "data-save": text.toLowerCase() });
      made.addEventListener("click", act);
      return made;
    };
    const text = (type, content) => new Blob([content], { type });
    const svg = () => new XMLSerializer().serializeToString(svgOf(view));
    this.told = element("output", { class: "tinybert-state" });
    this.box = element("span", { class: "tinybert-save", role: "group", "aria-label": "save what is shown" },
      element("span", { text: "Save" }),
      button("SVG", () => save(fileName(view, "svg"), text("image/svg+xml", svg()))),
      button("PNG", async () => save(fileName(view, "png"), await pngOf(svgOf(view)))),
      button("CSV", () => save(fileName(view, "csv"), text("text/csv", csvText(shownRows(view))))),
      button("JSON", () => save(fileName(view, "json"), text("application/json", jsonText(view)))),
      button("Link", () => this.link()), this.told);
  }

  // In a saved page the address gets the state; in a notebook the reader gets a line of Python.
  link() {
    const { view } = this, inPage = view.setting("inPage", false);
    if (inPage) history.replaceState(null, "", toFragment(view));
    const told = inPage ? location.href : `explorer.${toPython(view)}`;
    this.told.textContent = inPage ? "The address of this page now shows this state." : told;
    navigator.clipboard?.writeText(told).catch(() => {});
  }
}
