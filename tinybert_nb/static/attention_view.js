// Teacher | student | difference of one attention head, to be pointed at and walked through.
//
// The same file draws in JupyterLab (as an anywidget) and in a report that is opened from disk. It
// asks its model for
//   sight   {tokens, segments, layers, heads, windows, layer, head, teacher, student}: word pieces;
//           to which text each belongs; per student layer the teacher layer beside it (null: none);
//           how many heads; per student layer both models' windows of local attention (null: none);
//           which pair is shown, from 1; its scores before the softmax, float32, row by row
//   view    "probabilities" or "scores"
//   token   from which word piece we look, from 0
// and tells it `layer`, `head`, `view` and `token` when the reader chooses others. Text is only ever
// set as textContent, and nothing is fetched.

const WINDOWS = [32, 64, 128, 256, 512];
const NAMES = ["teacher", "student", "difference"];
const MOST_LABELS = 32; // tokens written beside a picture

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function floats(data) {
  // a DataView over a websocket need not begin at a multiple of four
  const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
  return new Float32Array(bytes.slice().buffer);
}

// Of a row only the tokens at a distance below the layer's window get a share (null: all do).
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

function largest(values, floor = 1e-9) {
  let found = floor;
  for (const value of values) found = Math.max(found, Math.abs(value));
  return found;
}

function number(value, seen) {
  const digits = Math.max(...seen.most) < 10 ? 2 : 1;
  return value.toFixed(digits).replace(/^-(?=0\.0+$)/, "").replace("-", "−");
}

// A token within a sentence; one that is read from right to left turns nothing about around it.
function isolated(token) {
  return `\u2068${token}\u2069`;
}

// What is shown: three tables of numbers and what colours mean.
function readSight(sight, view) {
  const size = sight.tokens.length;
  const windows = sight.windows[sight.layer - 1];
  const tables = [floats(sight.teacher), floats(sight.student)].map((scores, i) =>
    view === "scores" ? scores : softmaxRows(scores, size, windows[i]));
  tables.push(tables[1].map((value, i) => value - tables[0][i]));
  const both = Math.max(largest(tables[0]), largest(tables[1]));
  return { size, tables, most: [both, both, largest(tables[2])], view };
}

function colours(root) {
  const style = getComputedStyle(root);
  const named = name => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  return { ground: named("--tinybert-ground"), much: named("--tinybert-much"),
           more: named("--tinybert-more"), less: named("--tinybert-less") };
}

function shade(seen, panel, value, palette) {
  const signed = panel === 2 || seen.view === "scores";
  const end = !signed ? palette.much : value > 0 ? palette.more : palette.less;
  const share = Math.min(1, Math.abs(value) / seen.most[panel]);
  return palette.ground.map((from, i) => Math.round(from + (end[i] - from) * share));
}

function css([red, green, blue]) {
  return `rgb(${red}, ${green}, ${blue})`;
}

function readable([red, green, blue]) {
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
}

// 256 colours from the ground to the end, each as one number of an image's memory.
function ramp(ground, end) {
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let i = 0; i < 256; i++) {
    for (let part = 0; part < 3; part++)
      bytes[4 * i + part] = ground[part] + ((end[part] - ground[part]) * i) / 255;
    bytes[4 * i + 3] = 255;
  }
  return new Uint32Array(bytes.buffer);
}

// The numbers of one panel as an image, a pixel each.
function imageOf(seen, panel, [first, count], palette) {
  const table = seen.tables[panel], scale = 255 / seen.most[panel];
  const signed = panel === 2 || seen.view === "scores";
  const above = ramp(palette.ground, signed ? palette.more : palette.much);
  const below = ramp(palette.ground, palette.less);
  const image = new ImageData(count, count), pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < count; row++) {
    const from = (first + row) * seen.size + first;
    for (let column = 0; column < count; column++) {
      const value = table[from + column] * scale;
      pixels[row * count + column] = value < 0 ? below[-value | 0] : above[value | 0];
    }
  }
  const drawn = new OffscreenCanvas(count, count);
  drawn.getContext("2d").putImageData(image, 0, 0);
  return drawn;
}

// One square picture; the row that is looked from is framed.
function paint(canvas, image, token, palette) {
  const sharp = window.devicePixelRatio || 1, count = image.width;
  const side = Math.round(canvas.clientWidth * sharp) || 260;
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = count > side;
  pen.drawImage(image, 0, 0, side, side);
  if (token >= 0 && token < count) {
    pen.strokeStyle = readable(palette.ground);
    pen.lineWidth = 1.5 * sharp;
    pen.strokeRect(0, (token * side) / count, side, side / count);
  }
}

// Letters that no font of this machine can draw: they all look like the one that nobody has.
function missingLetters(texts, family) {
  const pen = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
  const drawn = letter => {
    pen.clearRect(0, 0, 32, 32);
    pen.font = `20px ${family}`;
    pen.fillText(letter, 4, 24);
    return pen.getImageData(0, 0, 32, 32).data.join();
  };
  const none = drawn("\u{10FFFF}"), letters = new Set(texts.join("").match(/\p{L}/gu) ?? []);
  return [...letters].filter(letter => letter > "\u024f" && drawn(letter) === none).join("");
}

export function draw(model, root) {
  root.classList.add("tinybert-attention");
  root.dataset.lmSuppressShortcuts = "true"; // or JupyterLab takes the arrow keys for itself,
  root.addEventListener("keydown", event => { // in two places
    if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
  });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const state = { seen: null, span: [0, 1], pinned: false, pending: false, shown: null, built: "",
    images: null };

  // Controls, all of them native: reachable by keyboard and read out by name.
  const layer = element("select");
  const head = element("input", { type: "range", min: 1, step: 1 });
  const headNumber = element("output", { class: "tinybert-beside" });
  const view = element("select", {}, ...["probabilities", "scores"].map(name =>
    element("option", { value: name, text: name })));
  const start = element("input", { type: "range", min: 0, step: 1 });
  const width = element("select");
  const named = (text, ...parts) => element("label", {}, element("span", { text }), ...parts);
  const windowControls = element("div", { class: "tinybert-line" },
    named("Window from", start), named("tokens", width));
  const controls = element("div", { class: "tinybert-line" },
    named("Layer", layer), named("Head", head, headNumber), named("Show", view));

  const strip = element("div", { class: "tinybert-strip", role: "listbox",
    "aria-label": "Tokens. Choose one with the arrow keys to see where both models look from it." });
  const legend = element("div", { class: "tinybert-token tinybert-legend", "aria-hidden": "true" },
    ...["look from", ...NAMES].map(text => element("span", { text })));
  const said = element("p", { class: "tinybert-said", role: "status", "aria-live": "polite" });
  const canvases = NAMES.map(name => element("canvas", { role: "img", "data-panel": name }));
  const rowNames = element("div", { class: "tinybert-rows", "aria-hidden": "true" });
  const pictures = element("div", { class: "tinybert-pictures" }, rowNames,
    ...canvases.map((canvas, i) => element("figure", {}, element("figcaption"), canvas)));
  const captions = [...pictures.querySelectorAll("figcaption")];
  const far = element("p", { class: "tinybert-said" });
  const hint = element("p", { class: "tinybert-said", hidden: true });
  root.append(controls, windowControls, hint, strip, said, pictures, far);

  const sight = () => model.get("sight");
  const token = () => Math.min(Math.max(model.get("token"), 0), sight().tokens.length - 1);
  const choose = (name, value) => {
    model.set(name, value);
    model.save_changes();
    if (name === "token" || name === "view") later(); // a layer or head is drawn when it arrives
  };
  const later = () => { // many changes, one drawing
    if (state.pending) return;
    state.pending = true;
    requestAnimationFrame(() => { state.pending = false; show(); });
  };

  function fillControls() {
    const { layers, heads, layer: at, head: which } = sight();
    layer.replaceChildren(...layers.map((taught, i) => element("option", { value: i + 1,
      text: `student ${i + 1} beside teacher ${taught ?? "—"}` })));
    layer.value = at;
    head.max = heads;
    head.value = which;
    headNumber.textContent = `${which} of ${heads}`;
    view.value = model.get("view");
  }

  function fillHint() {
    const missing = missingLetters(sight().tokens, getComputedStyle(root).fontFamily);
    hint.hidden = !missing;
    hint.textContent = `No font here can draw ${missing.slice(0, 8)}: install one that can (for ` +
      "Chinese on Debian or Ubuntu fonts-noto-cjk) and load this page anew.";
  }

  function fillWindow() {
    const size = sight().tokens.length;
    const sizes = [...WINDOWS.filter(count => count < size), size];
    if (width.options.length !== sizes.length || Number(width.options[width.options.length - 1].value) !== size) {
      width.replaceChildren(...sizes.map(count => element("option", { value: count,
        text: count === size ? `all ${size}` : count })));
      width.value = size <= 64 ? size : 64;
      start.value = 0;
    }
    const count = Number(width.value);
    start.max = size - count;
    state.span = [Math.min(Number(start.value), size - count), count];
    windowControls.hidden = size <= WINDOWS[0];
  }

  function fillStrip() {
    const { tokens, segments } = sight();
    const [first, count] = state.span;
    const stacks = tokens.slice(first, first + count).map((text, i) => {
      const place = first + i;
      const stack = element("div", { class: "tinybert-token", role: "option", tabindex: -1,
        "data-place": place, "data-segment": segments[place] },
        element("span", { text }), ...NAMES.map(() => element("span", { "aria-hidden": "true" })));
      if (place && segments[place] !== segments[place - 1]) stack.classList.add("tinybert-second");
      return stack;
    });
    strip.replaceChildren(legend, ...stacks);
    rowNames.replaceChildren(...(count > MOST_LABELS ? [] : tokens.slice(first, first + count).map(text =>
      element("span", { text }))));
  }

  function showStrip(palette) {
    const { seen } = state, from = token();
    for (const stack of strip.querySelectorAll("[data-place]")) {
      const place = Number(stack.dataset.place);
      const values = seen.tables.map(table => table[from * seen.size + place]);
      [...stack.children].slice(1).forEach((cell, panel) => {
        const colour = shade(seen, panel, values[panel], palette);
        cell.style.backgroundColor = css(colour);
        cell.style.color = readable(colour);
        cell.textContent = number(values[panel], seen);
      });
      const told = NAMES.map((name, panel) => `${name} ${number(values[panel], seen)}`);
      stack.setAttribute("aria-label", `${isolated(stack.firstChild.textContent)}: ${told.join(", ")}`);
      stack.setAttribute("aria-selected", place === from);
      stack.tabIndex = place === from ? 0 : -1;
    }
    const inside = strip.querySelector("[tabindex='0']");
    if (!inside && strip.children[1]) strip.children[1].tabIndex = 0;
  }

  function most(panel, count) {
    const { seen } = state, from = token() * seen.size;
    const row = [...seen.tables[panel].subarray(from, from + seen.size)];
    return row.map((value, place) => [value, place]).sort((a, b) => b[0] - a[0]).slice(0, count);
  }

  function sayToken() {
    const { tokens } = sight(), { seen } = state;
    const list = panel => most(panel, 3).map(([value, place]) =>
      `“${isolated(tokens[place])}” ${number(value, seen)}`).join(", ");
    said.textContent = `From “${isolated(tokens[token()])}” the teacher looks most at ${list(0)}; ` +
      `the student at ${list(1)}.`;
  }

  function sayFar() {
    const { tokens } = sight(), { seen } = state, [first, count] = state.span;
    far.replaceChildren();
    if (count === seen.size) return;
    const outside = [0, 1].map(panel => most(panel, seen.size)
      .filter(([, place]) => place < first || place >= first + count));
    const told = panel => seen.view === "scores" ? "" :
      ` (${number(outside[panel].reduce((sum, [value]) => sum + value, 0), seen)} of all)`;
    for (const panel of [0, 1]) {
      far.append(`${panel ? " The student" : "Outside of the window the teacher"} looks at${told(panel)} `);
      for (const [value, place] of outside[panel].slice(0, 3)) {
        const link = element("button", { type: "button", "data-go": place,
          text: `${isolated(tokens[place])} ${number(value, seen)}`,
          "aria-label": `move the window to token ${place + 1}, ${isolated(tokens[place])}` });
        far.append(link, " ");
      }
    }
  }

  function showPictures(palette) {
    const { layers, layer: at } = sight(), { seen } = state;
    const titles = [`teacher, layer ${layers[at - 1] ?? "—"}`, `student, layer ${at}`,
      "student minus teacher"];
    const key = `${state.span} ${palette.ground}`;
    if (state.images?.key !== key || state.images.seen !== seen) {
      const drawn = NAMES.map((_, panel) => imageOf(seen, panel, state.span, palette));
      state.images = { key, seen, drawn };
    }
    rowNames.style.height = `${canvases[0].clientHeight}px`;
    canvases.forEach((canvas, panel) => {
      captions[panel].textContent = titles[panel];
      paint(canvas, state.images.drawn[panel], token() - state.span[0], palette);
      canvas.setAttribute("aria-label", `${titles[panel]}: attention of ${state.span[1]} tokens, ` +
        `head ${sight().head}, ${seen.view}; the largest value is ${number(seen.most[panel], seen)}`);
    });
  }

  function show() {
    const now = sight();
    if (!now || !now.tokens || !now.tokens.length) return;
    const key = [model.get("view"), now];
    if (!state.shown || key.some((part, i) => part !== state.shown[i])) {
      state.seen = readSight(now, model.get("view"));
      state.shown = key;
      fillControls();
      fillHint();
    }
    fillWindow();
    const built = JSON.stringify([state.span, now.tokens, now.segments]);
    if (state.built !== built) {
      const focused = strip.contains(document.activeElement);
      fillStrip();
      state.built = built;
      if (focused) strip.querySelector(`[data-place='${token()}']`)?.focus({ preventScroll: true });
    }
    const light = document.body.dataset.jpThemeLight; // JupyterLab's own word, where there is one
    root.classList.toggle("tinybert-dark", light ? light === "false" : scheme.matches);
    const palette = colours(root);
    showStrip(palette);
    showPictures(palette);
    sayToken();
    sayFar();
    root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1;
  }

  function moveTo(place) {
    const [first, count] = state.span, { length } = sight().tokens;
    place = Math.min(Math.max(place, 0), length - 1);
    if (place < first || place >= first + count)
      start.value = Math.min(Math.max(0, place - (count >> 1)), length - count);
    choose("token", place);
  }

  layer.addEventListener("change", () => choose("layer", Number(layer.value)));
  head.addEventListener("input", () => choose("head", Number(head.value)));
  view.addEventListener("change", () => choose("view", view.value));
  start.addEventListener("input", later);
  width.addEventListener("change", later);
  far.addEventListener("click", event => {
    const place = event.target.dataset?.go;
    if (place !== undefined) {
      start.value = Math.min(Math.max(0, place - (state.span[1] >> 1)), start.max);
      later();
    }
  });

  const placeOf = event => event.target.closest?.("[data-place]")?.dataset.place;
  strip.addEventListener("pointerover", event => {
    const place = placeOf(event);
    if (place !== undefined && !state.pinned && Number(place) !== token()) choose("token", Number(place));
  });
  strip.addEventListener("click", event => {
    const place = placeOf(event);
    if (place === undefined) return;
    state.pinned = !(state.pinned && Number(place) === token());
    root.classList.toggle("tinybert-pinned", state.pinned);
    choose("token", Number(place));
  });
  strip.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const place = step ? token() + step : { Home: 0, End: sight().tokens.length - 1 }[event.key];
    if (event.key === "Escape") {
      state.pinned = false;
      root.classList.remove("tinybert-pinned");
    }
    if (place === undefined) return;
    event.preventDefault();
    moveTo(place);
    requestAnimationFrame(() => requestAnimationFrame(() =>
      strip.querySelector(`[data-place='${token()}']`)?.focus()));
  });
  canvases.forEach(canvas => {
    canvas.addEventListener("pointermove", event => {
      const { tokens } = sight(), { seen } = state, [first, count] = state.span;
      const box = canvas.getBoundingClientRect();
      const place = (at, edge, side) => first + Math.min(count - 1, Math.max(0, Math.floor(((at - edge) / side) * count)));
      const row = place(event.clientY, box.top, box.height), column = place(event.clientX, box.left, box.width);
      if (row !== token() && !state.pinned) choose("token", row);
      const told = NAMES.map((name, panel) => `${name} ${number(seen.tables[panel][row * seen.size + column], seen)}`);
      requestAnimationFrame(() => requestAnimationFrame(() => {
        said.textContent = `From “${isolated(tokens[row])}” to ` +
          `“${isolated(tokens[column])}”: ${told.join(", ")}.`;
      }));
    });
  });

  for (const name of ["sight", "view", "token"]) model.on(`change:${name}`, later);
  const resized = new ResizeObserver(later);
  resized.observe(pictures);
  scheme.addEventListener("change", later);
  const themed = new MutationObserver(later); // JupyterLab marks its theme on the body
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  show();
  return () => {
    model.off?.(null, later);
    resized.disconnect();
    themed.disconnect();
    scheme.removeEventListener("change", later);
  };
}

export default {
  render({ model, el }) {
    return draw(model, el);
  },
};
