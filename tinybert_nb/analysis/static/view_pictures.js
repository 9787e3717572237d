// After: view_colours.js
// The three square pictures: teacher, student and their difference, a cell for each query and key.

// The numbers of one panel as an image, a pixel each.
function imageOf(seen, panel, [first, count], palette) {
  const table = seen.tables[panel];
  const above = ramp(palette.ground, isSigned(seen, panel) ? palette.more : palette.much);
  const below = ramp(palette.ground, palette.less);
  const image = new ImageData(count, count), pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < count; row++) {
    const from = (first + row) * seen.size + first;
    for (let column = 0; column < count; column++) {
      const value = table[from + column];
      const part = 255 * strength(seen, panel, value) | 0;
      pixels[row * count + column] = (value < 0 ? below : above)[part];
    }
  }
  const drawn = new OffscreenCanvas(count, count);
  drawn.getContext("2d").putImageData(image, 0, 0);
  return drawn;
}

// One square picture, with a frame around the row of each query.
function paint(canvas, image, rows, palette) {
  const sharp = window.devicePixelRatio || 1, count = image.width;
  const side = Math.round(canvas.clientWidth * sharp) || 260;
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = count > side;
  pen.drawImage(image, 0, 0, side, side);
  pen.strokeStyle = readable(palette.ground);
  pen.lineWidth = 1.5 * sharp;
  for (const row of rows.filter(row => row >= 0 && row < count))
    pen.strokeRect(0, (row * side) / count, side, side / count);
}

// A colour bar's words, colours and numbers.
function paintScale(bar, seen, panel, palette) {
  const [what, gradient, numbers] = bar.children;
  what.textContent = scaleText(seen, panel);
  gradient.style.background =
    `linear-gradient(to right, ${scaleStops(seen, panel, palette).map(css).join(", ")})`;
  writeTicks(numbers, ticks(seen, panel));
}

// Numbers at their places below a bar, as many as fit.
function writeTicks(box, numbers) {
  const letter = Number.parseFloat(getComputedStyle(box).fontSize) || 11;
  box.replaceChildren(...fittingTicks(numbers, box.clientWidth || 250, letter).map(([value, place]) => {
    const tick = element("span", { text: tickText(value) });
    tick.style.left = `${100 * place}%`;
    return tick;
  }));
}

// Labels along one side of a picture, each where its row or column is, as many as fit.
function label(side, texts, pixels, upright, thick) {
  const every = Math.max(1, Math.ceil((thick * texts.length) / pixels));
  side.style[upright ? "gridTemplateRows" : "gridTemplateColumns"] =
    `repeat(${texts.length}, minmax(0, 1fr))`;
  side.replaceChildren(...texts.map((text, place) => [text, place + 1])
    .filter(([, place]) => (place - 1) % every === 0)
    .map(([text, place]) => {
      const written = element("span", { text, title: text });
      written.style[upright ? "gridRow" : "gridColumn"] = place;
      return written;
    }));
}

// One panel: caption, picture, labels, scale.
class Picture {
  constructor(panel) {
    const hidden = (kind, ...parts) =>
      element("div", { class: `tinybert-${kind}`, "aria-hidden": "true" }, ...parts);
    this.panel = panel;
    this.canvas = element("canvas", { role: "img", "data-panel": NAMES[panel] });
    this.rows = hidden("rows");
    this.columns = hidden("columns");
    this.scale = hidden("scale", element("span"), element("div"), element("div"));
    this.caption = element("figcaption");
    this.figure = element("figure", {}, this.caption, element("div", { class: "tinybert-plot" },
      hidden("from", "from token (query)"), this.rows, this.canvas, this.columns,
      hidden("to", "to token (key)"), this.scale));
  }

  // The image is kept while only the query changes, the labels while they would be the same.
  show(view, palette) {
    const { seen, span: [first, count] } = view.state, { panel, canvas } = this;
    const key = `${[first, count]} ${palette.ground} ${canvas.clientWidth}`;
    if (this.seen !== seen || this.key !== key) {
      Object.assign(this, { seen, key, image: imageOf(seen, panel, [first, count], palette) });
      this.caption.textContent = view.titles()[panel];
      paintScale(this.scale, seen, panel, palette);
    }
    this.showLabels(seen.units.slice(first, first + count).map(({ text }) => text));
    paint(canvas, this.image, view.rows().map(row => row - first), palette);
    canvas.setAttribute("aria-label", `${view.titles()[panel]}: ${wayName(seen.view)} of ` +
      `${count} tokens, ${view.headText()}; colours end at ${number(seen, panel, seen.ends[panel])}`);
  }

  showLabels(texts) {
    const pixels = this.canvas.clientWidth;
    const thick = Number.parseFloat(getComputedStyle(this.rows).lineHeight) || 13;
    const labelled = JSON.stringify([texts, pixels, thick]);
    if (!pixels || this.labelled === labelled) return;
    label(this.rows, texts, pixels, true, thick);
    label(this.columns, texts, pixels, false, thick);
    this.labelled = labelled;
  }

  // Row and column of a pointer, as units.
  unitsAt(event, [first, count]) {
    const box = this.canvas.getBoundingClientRect();
    const at = share => first + Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    return [at((event.clientY - box.top) / box.height), at((event.clientX - box.left) / box.width)];
  }
}
