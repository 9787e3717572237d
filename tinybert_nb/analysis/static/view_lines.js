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

// A graphic of two columns of tokens. `step` is the height of a token, `wide` the whole width.
function linesOf(seen, panel, rows, span, palette, step, wide) {
  const [first, count] = span, column = wide * 0.34, size = step * 0.78;
  const middle = place => (place - first + 0.5) * step;
  const word = (place, left) => graphic("text", { x: left ? column - 6 : wide - column + 6,
    y: middle(place), "text-anchor": left ? "end" : "start", "dominant-baseline": "central",
    "font-size": size, "font-weight": left && rows.includes(place) ? "bold" : null,
    fill: "currentColor", text: isolated(cutText(seen.units[place].text, column / size)) });
  const shown = rows.filter(row => row >= first && row < first + count);
  const lines = strongest(seen, panel, shown, span).map(([value, row, key]) => {
    const share = strength(seen, panel, value);
    const ink = !isSigned(seen, panel) ? palette.much : value > 0 ? palette.more : palette.less;
    return graphic("line", { x1: column, y1: middle(row), x2: wide - column, y2: middle(key),
      stroke: css(ink), "stroke-width": (0.6 + step * 0.25 * share).toFixed(2),
      "stroke-opacity": share.toFixed(3) });
  });
  const places = seen.units.map((_, place) => place).slice(first, first + count);
  return graphic("svg", { viewBox: `0 0 ${wide} ${count * step}`, width: wide, height: count * step,
    role: "img", "aria-label": `lines of the ${NAMES[panel]} from ${shown.length} selected tokens` },
    ...lines, ...places.map(place => word(place, true)), ...places.map(place => word(place, false)));
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
    const wide = Math.max(200, Math.min(room, 34 * step));
    this.box.replaceChildren(...panels.map(panel => element("figure", {},
      element("figcaption", { text: `${this.view.titles()[panel]}: from the selected tokens` }),
      linesOf(seen, panel, this.view.rows(), span, palette, step, wide))));
  }
}
