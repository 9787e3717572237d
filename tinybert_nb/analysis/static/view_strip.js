// After: view_colours.js
// The strip of tokens: each shows how much the selected tokens attend to it, in both models.

class Strip {
  constructor(view) {
    this.view = view;
    this.box = element("div", { class: "tinybert-strip", role: "listbox",
      "aria-multiselectable": "true",
      "aria-label": "Tokens. Choose one with the arrow keys to see what each model attends to from it." });
    this.legend = element("div", { class: "tinybert-token tinybert-legend", "aria-hidden": "true" });
    this.built = "";
    this.listen();
  }

  // A stack for each unit of the window: its text, and a coloured number for each panel.
  build() {
    const { seen, span: [first, count] } = this.view.state;
    const built = JSON.stringify([first, seen.units.slice(first, first + count), seen.panels]);
    if (this.built === built) return;
    const focused = this.box.contains(document.activeElement);
    const stacks = seen.units.slice(first, first + count).map(({ text, segment }, i) => {
      const place = first + i;
      const stack = element("div", { class: "tinybert-token", role: "option", tabindex: -1,
        "data-place": place, "data-segment": segment },
        element("span", { text }), ...seen.panels.map(() => element("span", { "aria-hidden": "true" })));
      if (place && segment !== seen.units[place - 1].segment) stack.classList.add("tinybert-second");
      return stack;
    });
    this.legend.replaceChildren(...["from token", ...seen.panels.map(panel => NAMES[panel])]
      .map(text => element("span", { text })));
    this.box.replaceChildren(this.legend, ...stacks);
    this.built = built;
    if (focused) this.focus(true);
  }

  show(palette) {
    this.build();
    const { seen } = this.view.state, rows = this.view.rows(), at = this.view.row();
    const key = `${this.built} ${rows} ${at} ${palette.ground}`;
    if (this.seen === seen && this.key === key) return;
    Object.assign(this, { seen, key });
    const sums = seen.tables.map((table, panel) => table && sumRows(seen, panel, rows));
    for (const stack of this.box.querySelectorAll("[data-place]")) {
      const place = Number(stack.dataset.place);
      seen.panels.forEach((panel, i) => {
        const cell = stack.children[i + 1], colour = shade(seen, panel, sums[panel][place], palette);
        cell.style.backgroundColor = css(colour);
        cell.style.color = readable(colour);
        cell.textContent = number(seen, panel, sums[panel][place]);
      });
      const told = seen.panels.map(panel => `${NAMES[panel]} ${number(seen, panel, sums[panel][place])}`);
      stack.setAttribute("aria-label", `${isolated(seen.units[place].text)}: ${told.join(", ")}`);
      stack.setAttribute("aria-selected", rows.includes(place));
      stack.tabIndex = place === at ? 0 : -1;
    }
    const inside = this.box.querySelector("[tabindex='0']");
    if (!inside && this.box.children[1]) this.box.children[1].tabIndex = 0;
  }

  focus(now) {
    const act = () => this.box.querySelector(`[data-place='${this.view.row()}']`)
      ?.focus({ preventScroll: now });
    if (now) act();
    else requestAnimationFrame(() => requestAnimationFrame(act));
  }

  listen() {
    const { view, box } = this;
    const placeOf = event => event.target.closest?.("[data-place]")?.dataset.place;
    box.addEventListener("pointerover", event => {
      const place = placeOf(event);
      if (place !== undefined && !view.isHeld() && Number(place) !== view.row()) view.chooseRow(Number(place));
    });
    box.addEventListener("click", event => {
      const place = Number(placeOf(event));
      if (Number.isNaN(place)) return;
      if (event.shiftKey) return view.toggle(place);
      view.pin(!(view.state.pinned && place === view.row() && view.rows().length === 1));
      view.chooseOnly(place);
    });
    box.addEventListener("keydown", event => this.onKey(event));
  }

  // Arrows, Home and End move; with Shift they add the token; Space holds it, Escape lets all go.
  onKey(event) {
    const { view } = this, { units } = view.state.seen, at = view.row();
    const right = getComputedStyle(this.box).direction === "rtl" ? -1 : 1;
    const step = { ArrowRight: right, ArrowLeft: -right }[event.key];
    const place = step ? at + step : { Home: 0, End: units.length - 1 }[event.key];
    if (event.key === "Escape") {
      view.pin(false);
      view.chooseOnly(at);
    } else if (event.key === " ") {
      event.preventDefault();
      view.hold(at);
    }
    if (place === undefined) return;
    event.preventDefault();
    if (event.shiftKey) view.hold(at, true);
    view.moveTo(place);
    if (event.shiftKey) view.hold(view.row(), true);
    this.focus(false);
  }
}
