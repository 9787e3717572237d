// After: view_colours.js
// Lines between tokens: from each selected query to what it attends to, width and opacity by value.

const MOST_LINES = 200;

// The strongest lines of one model, as [value, query, key].
function strongest(seen, panel, rows, [first, count]) {
  const found = [];
  for (const row of rows) for (let column = first; column < first + count; column++)
    found.push([seen.tables[panel][row * seen.size + column], row, column]);
  return found.filter(([value]) => strength(seen, panel, value) > 0.02)
    .sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, MOST_LINES);
}

// Where the words are: `step` is the height of a token, `wide` the whole width.
function lineFrame([first], step, wide) {
  return { column: wide * 0.34, step, wide, middle: place => (place - first + 0.5) * step };
}

// The two columns of tokens.
function columnsOf(seen, [first, count], { column, step, wide, middle }) {
  const size = step * 0.78;
  const word = (place, left) => graphic("text", { x: left ? column - 6 : wide - column + 6,
    y: middle(place), "text-anchor": left ? "end" : "start", "dominant-baseline": "central",
    "font-size": size, fill: "currentColor", "data-query": left ? place : null,
    text: isolated(cutText(seen.units[place].text, column / size)) });
  const places = seen.units.map((_, place) => place).slice(first, first + count);
  return graphic("g", {}, ...places.map(place => word(place, true)), ...places.map(place => word(place, false)));
}

// The lines themselves, the strongest first.
function strokesOf(seen, panel, rows, [first, count], palette, { column, step, wide, middle }) {
  const shown = rows.filter(row => row >= first && row < first + count);
  return strongest(seen, panel, shown, [first, count]).map(([value, row, key]) => {
    const share = strength(seen, panel, value);
    const ink = !isSigned(seen, panel) ? palette.much : value > 0 ? palette.more : palette.less;
    return graphic("line", { x1: column, y1: middle(row), x2: wide - column, y2: middle(key),
      stroke: css(ink), "stroke-width": (0.6 + step * 0.25 * share).toFixed(2),
      "stroke-opacity": share.toFixed(3) });
  });
}

// A graphic of one model: `columns` is an earlier result of columnsOf, which may be used again.
function linesOf(seen, panel, rows, span, palette, frame, columns = columnsOf(seen, span, frame)) {
  for (const word of columns.querySelectorAll("[data-query]"))
    word.setAttribute("font-weight", rows.includes(Number(word.dataset.query)) ? "bold" : "normal");
  const { wide, step } = frame, high = span[1] * step;
  return graphic("svg", { viewBox: `0 0 ${wide} ${high}`, width: wide, height: high, role: "img",
    "aria-label": `lines of the ${NAMES[panel]} from ${rows.length} selected tokens` },
    ...strokesOf(seen, panel, rows, span, palette, frame), columns);
}

function cutText(text, letters) {
  const most = Math.max(3, Math.floor(1.6 * letters)), all = [...text];
  return all.length > most ? `${all.slice(0, most - 1).join("")}…` : text;
}

class Lines {
  constructor(view) {
    this.view = view;
    this.box = element("div", { class: "tinybert-lines", hidden: true });
  }

  show(palette) {
    const { seen, span } = this.view.state;
    this.box.hidden = !this.view.setting("lines", false);
    if (this.box.hidden) return this.box.replaceChildren();
    const step = this.view.labelHeight() * 1.25, panels = seen.panels.filter(panel => panel < 2);
    const room = (this.box.clientWidth || 600) / panels.length - 14;
    const frame = lineFrame(span, step, Math.max(200, Math.min(room, 34 * step)));
    const key = JSON.stringify([seen.units, span, frame, panels]);
    if (this.key !== key) this.columns = panels.map(() => columnsOf(seen, span, frame));
    this.key = key;
    this.box.replaceChildren(...panels.map((panel, i) => element("figure", {},
      element("figcaption", { text: `${this.view.titles()[panel]}: from the selected tokens` }),
      linesOf(seen, panel, this.view.rows(), span, palette, frame, this.columns[i]))));
  }
}
