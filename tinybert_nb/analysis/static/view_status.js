// After: view_strip.js
// Sentences about what is shown: what the selected tokens attend to, inside the window and outside.

function mostAttended(values, count) {
  return [...values].map((value, place) => [value, place])
    .filter(([value]) => !Number.isNaN(value)).sort((a, b) => b[0] - a[0]).slice(0, count);
}

function queryText(view) {
  const { units } = view.state.seen, rows = view.rows();
  const quoted = rows.slice(0, 4).map(row => `“${isolated(units[row].text)}”`).join(" + ");
  const rest = rows.length > 4 ? ` and ${rows.length - 4} more` : "";
  return rows.length > 1 ? `${quoted}${rest} (${view.state.seen.kind.joins} of ${rows.length})` : quoted;
}

class Status {
  constructor(view) {
    this.view = view;
    this.said = element("p", { class: "tinybert-said", role: "status", "aria-live": "polite" });
    this.far = element("p", { class: "tinybert-said" });
    this.far.addEventListener("click", event => {
      const place = event.target.dataset?.go;
      if (place !== undefined) view.moveWindow(Number(place));
    });
  }

  show() {
    const { seen } = this.view.state;
    const list = panel => mostAttended(sumRows(seen, panel, this.view.rows()), 3)
      .map(([value, place]) => `“${isolated(seen.units[place].text)}” ${number(seen, panel, value)}`).join(", ");
    const told = seen.computed.map((panel, i) => seen.view === "cosine" ?
      `in the ${NAMES[panel]} ${list(panel)}` : `the ${NAMES[panel]} ${i ? "" : "attends most "}to ${list(panel)}`);
    const start = seen.view === "cosine" ? "States most like that of" : "From";
    this.said.textContent = `${start} ${queryText(this.view)} ${told.join("; ")}.`;
    this.showFar();
  }

  // One number, and the whole text of its row and column.
  showCell(row, column) {
    const { seen } = this.view.state;
    const told = seen.panels.map(panel =>
      `${NAMES[panel]} ${number(seen, panel, seen.tables[panel][row * seen.size + column])}`);
    this.said.textContent = `From “${isolated(seen.units[row].text)}” to ` +
      `“${isolated(seen.units[column].text)}”: ${told.join(", ")}.`;
  }

  // What lies outside of the window, each token a button that moves the window there.
  showFar() {
    const { seen, span: [first, count] } = this.view.state;
    this.far.replaceChildren();
    if (count === seen.size) return;
    seen.computed.forEach((panel, i) => {
      const values = sumRows(seen, panel, this.view.rows());
      const outside = mostAttended(values, seen.size)
        .filter(([, place]) => place < first || place >= first + count);
      const whole = outside.reduce((sum, [value]) => sum + value, 0);
      const told = seen.kind.signed ? "" : ` (${number(seen, panel, whole)} of all)`;
      this.far.append(`${i ? " The" : "Outside of the window the"} ${NAMES[panel]} attends to${told} `);
      for (const [value, place] of outside.slice(0, 3))
        this.far.append(this.linkTo(place, number(seen, panel, value)), " ");
    });
  }

  linkTo(place, value) {
    const token = isolated(this.view.state.seen.units[place].text);
    return element("button", { type: "button", "data-go": place, text: `${token} ${value}`,
      "aria-label": `move the window to token ${place + 1}, ${token}` });
  }
}
