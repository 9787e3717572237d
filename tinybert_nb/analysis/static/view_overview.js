// After: view_pictures.js
// All heads of all mapped layers at once, coloured by how much the two models disagree.
//
// `overview` holds {measures: [{name, title, same}], rows}: `same` is the measure's value for equal
// attention; a row is {student_layer, teacher_layer, head, mapped} with a number for each measure,
// and the row of a teacher layer that no student layer has as its teacher has mapped: false.

// How far a value is from agreement, as the root of its share of the largest such distance: mapped
// layers, which were trained to agree, are visible beside others that were not.
function disagreement(rows, { name, same }) {
  const far = row => Math.abs(row[name] - same) || 0;
  const most = rows.reduce((top, row) => Math.max(top, far(row)), 0) || 1;
  return { of: row => Math.sqrt(far(row) / most), end: same + (same > 0 ? -most : most) };
}

class Overview {
  constructor(view) {
    this.view = view;
    this.measure = choice("measure", []);
    this.table = element("table", { role: "grid", class: "tinybert-grid" });
    this.scale = element("div", { class: "tinybert-scale tinybert-overview-scale" },
      element("span"), element("div"), element("div"));
    this.box = element("details", { class: "tinybert-overview", open: true },
      element("summary", { text: "Where the two differ: all heads" }),
      named("Measure", this.measure), this.table, this.scale);
    this.measure.addEventListener("change", () => view.choose("measure", this.measure.value));
    this.table.addEventListener("click", event => this.open(event.target.closest("[data-head]")));
    this.table.addEventListener("keydown", event => this.onKey(event));
  }

  show(palette) {
    const content = this.view.model.get("overview"), { sight } = this.view;
    this.box.hidden = !content?.rows?.length;
    if (this.box.hidden) return;
    const measure = content.measures.find(({ name }) => name === this.view.setting("measure")) ??
      content.measures[0];
    const key = `${measure.name} ${palette.ground}`;
    const there = content.rows[0][measure.name] !== undefined; // else it is being computed
    if (there && (this.content !== content || this.key !== key)) {
      this.build(content, measure, palette);
      Object.assign(this, { content, key });
    }
    this.mark(sight);
  }

  // A line for each pair of layers, a cell for each head.
  build({ measures, rows }, measure, palette) {
    const heads = [...new Set(rows.map(({ head }) => head ?? 0))].sort((a, b) => a - b);
    const pairs = [...new Set(rows.map(pairName))];
    const far = disagreement(rows, measure);
    this.measure.replaceChildren(...measures.map(({ name, title }) =>
      element("option", { value: name, text: title, selected: name === measure.name })));
    this.table.setAttribute("aria-label", `${measure.title} of each head and pair of layers`);
    const top = element("tr", {}, element("th", { scope: "col", text: "head" }),
      ...heads.map(head => element("th", { scope: "col", text: head || "all" })));
    const lines = pairs.map((pair, i) => {
      const own = rows.filter(row => pairName(row) === pair);
      return element("tr", { class: own[0].mapped === false && "tinybert-unmapped" },
        element("th", { scope: "row", text: pair }), ...own.map(row =>
          overviewCell(row, row.pair ?? i + 1, measure, mixed(palette.ground, palette.more, far.of(row)))));
    });
    this.table.replaceChildren(element("thead", {}, top), element("tbody", {}, ...lines));
    this.paintScale(measure, far, palette);
  }

  paintScale({ title, same }, { end }, palette) {
    const [what, gradient, numbers] = this.scale.children;
    what.textContent = `${title}; ${tickText(same)}: the same`;
    gradient.style.background = `linear-gradient(to right, ${css(palette.ground)}, ${css(palette.more)})`;
    writeTicks(numbers, [0, 0.01, 0.1, 0.4, 1].map(share => [same + share * (end - same), Math.sqrt(share)]));
  }

  // Whether the chosen measure is still being computed elsewhere.
  awaits() {
    const rows = this.view.model.get("overview")?.rows;
    return Boolean(rows?.length) && rows[0][this.view.setting("measure", "jensen_shannon")] === undefined;
  }

  fold(folded) {
    this.box.open = !folded;
  }

  // The open head is framed and is the one that Tab reaches.
  mark({ layer, head }) {
    const cells = [...this.table.querySelectorAll("[data-head]")];
    const isOpen = ({ dataset }) => Number(dataset.layer) === layer && Number(dataset.head) === head;
    const inside = this.table.contains(document.activeElement);
    const reached = cells.find(isOpen) ?? cells[0];
    for (const cell of cells) {
      cell.setAttribute("aria-selected", isOpen(cell));
      if (!inside) cell.tabIndex = cell === reached ? 0 : -1;
    }
  }

  open(cell) {
    if (!cell) return;
    this.view.choose({ layer: Number(cell.dataset.layer), head: Number(cell.dataset.head) });
  }

  onKey(event) {
    const cell = event.target.closest("[data-head]"), line = cell?.parentElement;
    if (!cell) return;
    if (event.key === "Enter" || event.key === " ") this.open(cell);
    const place = cell.cellIndex;
    const next = { ArrowRight: cell.nextElementSibling, ArrowLeft: cell.previousElementSibling,
      ArrowDown: line.nextElementSibling?.cells[place], ArrowUp: line.previousElementSibling?.cells[place],
      Home: line.cells[1], End: line.cells[line.cells.length - 1], Enter: cell, " ": cell }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    if (!next?.dataset.head) return;
    cell.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}

const pairName = ({ student_layer: ours, teacher_layer: theirs, mapped }) =>
  mapped === false ? `unmapped: teacher ${theirs}, student ${ours}` : `student ${ours}, teacher ${theirs}`;

function overviewCell(row, layer, { name, title }, colour) {
  const value = formatted(row[name], 1), whole = `${pairName(row)}, head ${row.head || "all"}` +
    `${row.teacher_head && row.teacher_head !== row.head ? ` (teacher's ${row.teacher_head})` : ""}`;
  const cell = element("td", { role: "gridcell", tabindex: -1, "data-layer": layer, "data-head": row.head ?? 0,
    title: `${whole}: ${title} ${value}`, "aria-label": `${whole}: ${value}` });
  cell.style.backgroundColor = css(colour);
  return cell;
}
