// Teacher, student and difference of one attention head, interactive by pointer and keys.
//
// The same file draws in JupyterLab (as an anywidget) and in a report that is opened from disk. It
// asks its model for
//   sight   {tokens, segments, layers, heads, windows, layer, head, largest, teacher, student}:
//           tokens; to which text each belongs; per student layer the teacher layer beside it (null:
//           none); how many heads; per student layer both models' windows of local attention (null:
//           none); which pair is shown, from 1; the largest absolute score of all heads; the pair's
//           scores before the softmax, float32, row by row. `teacher` is null where only the student
//           is shown, and NaN while it is still being computed. With `mean`, head 0 is the mean over
//           the heads: its scores, and in `probabilities` both models' mean probabilities
//   view    "probabilities" or "scores"
//   token   the token whose attention is shown (the query), from 0
// and sets `layer`, `head`, `view` and `token` when the reader chooses others. Text is only ever
// set as textContent, and nothing is fetched.

const WINDOWS = [32, 64, 128, 256, 512];
const NAMES = ["teacher", "student", "difference"];
const LABEL = 13; // pixels that a token's label takes beside a picture

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

function number(value, seen) {
  if (!Number.isFinite(value)) return "–";
  return value.toFixed(seen.most < 10 ? 2 : 1).replace(/^-(?=0\.0+$)/, "").replace("-", "−");
}

// A token within a sentence, isolated so that right-to-left text does not reorder what surrounds it.
function isolated(token) {
  return `\u2068${token}\u2069`;
}

// What is shown: three tables of numbers, and the value at the end of the colours. That value is the
// same for every head and layer, for both models and for their difference.
function readSight(sight, view) {
  const size = sight.tokens.length;
  const windows = sight.windows[sight.layer - 1];
  const tables = [sight.teacher, sight.student].map((data, i) => {
    if (!data || view === "scores") return data && floats(data);
    return sight.probabilities?.[i] ?? softmaxRows(floats(data), size, windows[i]);
  });
  tables.push(tables[0] && tables[1].map((value, i) => value - tables[0][i]));
  const panels = [0, 1, 2].filter(panel => tables[panel]);
  const computed = [0, 1].filter(panel => tables[panel] && !Number.isNaN(tables[panel][0]));
  return { size, tables, panels, computed, most: view === "scores" ? sight.largest || 1 : 1, view };
}

const isSigned = (seen, panel) => panel === 2 || seen.view === "scores";

// From a value to a share of the colours, 0 to 1. Of probabilities it is the root, which keeps those
// of long texts visible: 0.01 takes a tenth of the colours.
function strength(seen, value) {
  const share = Math.min(1, Math.abs(value) / seen.most) || 0;
  return seen.view === "scores" ? share : Math.sqrt(share);
}

function colours(root) {
  const style = getComputedStyle(root);
  const named = name => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  return { ground: named("--tinybert-ground"), much: named("--tinybert-much"),
           more: named("--tinybert-more"), less: named("--tinybert-less") };
}

function shade(seen, panel, value, palette) {
  const end = !isSigned(seen, panel) ? palette.much : value > 0 ? palette.more : palette.less;
  const share = strength(seen, value);
  return palette.ground.map((from, i) => Math.round(from + (end[i] - from) * share));
}

function css([red, green, blue]) {
  return `rgb(${red}, ${green}, ${blue})`;
}

// Black or white, whichever has more contrast (relative luminance as in WCAG 2).
function readable(colour) {
  const [red, green, blue] = colour.map(part => part / 255).map(part =>
    part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
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
  const table = seen.tables[panel];
  const above = ramp(palette.ground, isSigned(seen, panel) ? palette.more : palette.much);
  const below = ramp(palette.ground, palette.less);
  const image = new ImageData(count, count), pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < count; row++) {
    const from = (first + row) * seen.size + first;
    for (let column = 0; column < count; column++) {
      const value = table[from + column];
      pixels[row * count + column] = (value < 0 ? below : above)[255 * strength(seen, value) | 0];
    }
  }
  const drawn = new OffscreenCanvas(count, count);
  drawn.getContext("2d").putImageData(image, 0, 0);
  return drawn;
}

// One square picture, with a frame around the row of the query.
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

// The numbers written below a colour bar, with their place on it from 0 to 1.
function ticks(seen, panel) {
  const above = (seen.view === "scores" ? [0.5, 1] : panel === 2 ? [0.1, 0.4, 1] : [0.01, 0.1, 0.4, 1])
    .map(share => share * seen.most);
  if (!isSigned(seen, panel)) return [0, ...above].map(value => [value, strength(seen, value)]);
  const below = above.map(value => -value).reverse();
  return [...below, 0, ...above].map(value =>
    [value, (1 + Math.sign(value) * strength(seen, value)) / 2]);
}

// What the colours of a panel mean.
function paintScale(bar, seen, panel, palette) {
  const [what, gradient, numbers] = bar.children;
  what.textContent = panel === 2 ? `difference of ${seen.view}, same scale` :
    `${seen.view}, one scale for all heads`;
  const { ground, much, more, less } = palette;
  const stops = isSigned(seen, panel) ? [less, ground, more] : [ground, much];
  gradient.style.background = `linear-gradient(to right, ${stops.map(css).join(", ")})`;
  numbers.replaceChildren(...ticks(seen, panel).map(([value, place]) => {
    const written = Number(value.toFixed(Math.abs(value) >= 10 ? 0 : 2));
    const tick = element("span", { text: String(written).replace("-", "−") });
    tick.style.left = `${100 * place}%`;
    return tick;
  }));
}

// Token labels along one side of a picture, each where its row or column is, as many as fit.
function label(side, tokens, pixels, upright) {
  const every = Math.max(1, Math.ceil((LABEL * tokens.length) / pixels));
  side.style[upright ? "gridTemplateRows" : "gridTemplateColumns"] =
    `repeat(${tokens.length}, minmax(0, 1fr))`;
  side.replaceChildren(...tokens.map((text, place) => [text, place + 1])
    .filter(([, place]) => (place - 1) % every === 0)
    .map(([text, place]) => {
      const written = element("span", { text, title: text });
      written.style[upright ? "gridRow" : "gridColumn"] = place;
      return written;
    }));
}

// Letters that no font of this machine can draw: they look like an unassigned code point.
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
  const scheme = matchMedia("(prefers-color-scheme: dark)"), paper = matchMedia("print");
  const state = { printing: false, seen: null, span: [0, 1], pinned: false, pending: false, shown: null, built: "",
    images: null, labelled: [] };

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
    "aria-label": "Tokens. Choose one with the arrow keys to see what each model attends to from it." });
  const legend = element("div", { class: "tinybert-token tinybert-legend", "aria-hidden": "true" });
  const said = element("p", { class: "tinybert-said", role: "status", "aria-live": "polite" });
  const canvases = NAMES.map(name => element("canvas", { role: "img", "data-panel": name }));
  const hidden = (kind, ...parts) =>
    element("div", { class: `tinybert-${kind}`, "aria-hidden": "true" }, ...parts);
  const rows = NAMES.map(() => hidden("rows")), columns = NAMES.map(() => hidden("columns"));
  const scales = NAMES.map(() => hidden("scale", element("span"), element("div"), element("div")));
  const axis = (kind, text) => element("div", { class: `tinybert-${kind}`, "aria-hidden": "true", text });
  const pictures = element("div", { class: "tinybert-pictures" }, ...canvases.map((canvas, i) =>
    element("figure", {}, element("figcaption"), element("div", { class: "tinybert-plot" },
      axis("from", "from token (query)"), rows[i], canvas, columns[i],
      axis("to", "to token (key)"), scales[i]))));
  const captions = [...pictures.querySelectorAll("figcaption")], figures = [...pictures.children];
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
    const { layers, heads, layer: at, head: which, mean, teacher } = sight();
    layer.replaceChildren(...layers.map((taught, i) => element("option", { value: i + 1,
      text: teacher ? `student ${i + 1} beside teacher ${taught ?? "—"}` : `student ${i + 1}` })));
    layer.value = at;
    head.min = mean ? 0 : 1;
    head.max = heads;
    head.value = which;
    headNumber.textContent = which ? `${which} of ${heads}` : `mean of ${heads}`;
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
    const { tokens, segments } = sight(), { panels } = state.seen;
    const [first, count] = state.span;
    const stacks = tokens.slice(first, first + count).map((text, i) => {
      const place = first + i;
      const stack = element("div", { class: "tinybert-token", role: "option", tabindex: -1,
        "data-place": place, "data-segment": segments[place] },
        element("span", { text }), ...panels.map(() => element("span", { "aria-hidden": "true" })));
      if (place && segments[place] !== segments[place - 1]) stack.classList.add("tinybert-second");
      return stack;
    });
    legend.replaceChildren(...["from token", ...panels.map(panel => NAMES[panel])]
      .map(text => element("span", { text })));
    strip.replaceChildren(legend, ...stacks);
  }

  function showStrip(palette) {
    const { seen } = state, from = token();
    for (const stack of strip.querySelectorAll("[data-place]")) {
      const place = Number(stack.dataset.place);
      const values = seen.tables.map(table => table?.[from * seen.size + place]);
      [...stack.children].slice(1).forEach((cell, i) => {
        const panel = seen.panels[i], colour = shade(seen, panel, values[panel], palette);
        cell.style.backgroundColor = css(colour);
        cell.style.color = readable(colour);
        cell.textContent = number(values[panel], seen);
      });
      const told = seen.panels.map(panel => `${NAMES[panel]} ${number(values[panel], seen)}`);
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
    const told = seen.computed.map((panel, i) =>
      `the ${NAMES[panel]} ${i ? "" : "attends most "}to ${list(panel)}`);
    said.textContent = `From “${isolated(tokens[token()])}” ${told.join("; ")}.`;
  }

  function sayFar() {
    const { tokens } = sight(), { seen } = state, [first, count] = state.span;
    far.replaceChildren();
    if (count === seen.size) return;
    for (const [i, panel] of seen.computed.entries()) {
      const outside = most(panel, seen.size).filter(([, place]) => place < first || place >= first + count);
      const told = seen.view === "scores" ? "" :
        ` (${number(outside.reduce((sum, [value]) => sum + value, 0), seen)} of all)`;
      far.append(`${i ? " The" : "Outside of the window the"} ${NAMES[panel]} attends to${told} `);
      for (const [value, place] of outside.slice(0, 3)) {
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
      const drawn = NAMES.map((_, panel) =>
        seen.tables[panel] && imageOf(seen, panel, state.span, palette));
      state.images = { key, seen, drawn };
    }
    const [first, count] = state.span, shown = sight().tokens.slice(first, first + count);
    root.classList.toggle("tinybert-single", seen.panels.length === 1);
    figures.forEach((figure, panel) => { figure.hidden = !seen.tables[panel]; });
    seen.panels.forEach(panel => {
      const canvas = canvases[panel];
      captions[panel].textContent = titles[panel];
      paintScale(scales[panel], seen, panel, palette);
      const pixels = canvas.clientWidth;
      const labelled = JSON.stringify([shown, pixels]);
      if (pixels && state.labelled[panel] !== labelled) {
        label(rows[panel], shown, pixels, true);
        label(columns[panel], shown, pixels, false);
        state.labelled[panel] = labelled;
      }
      paint(canvas, state.images.drawn[panel], token() - state.span[0], palette);
      canvas.setAttribute("aria-label", `${titles[panel]}: attention of ${state.span[1]} tokens, ` +
        `${sight().head ? `head ${sight().head}` : "mean of the heads"}, ${seen.view}; ` +
        `colours end at ${number(seen.most, seen)}`);
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
    const built = JSON.stringify([state.span, now.tokens, now.segments, state.seen.panels]);
    if (state.built !== built) {
      const focused = strip.contains(document.activeElement);
      fillStrip();
      state.built = built;
      if (focused) strip.querySelector(`[data-place='${token()}']`)?.focus({ preventScroll: true });
    }
    const light = document.body.dataset.jpThemeLight; // JupyterLab's own word, where there is one
    const onPaper = state.printing || paper.matches; // paper is white, whatever the screen is
    root.classList.toggle("tinybert-paper", onPaper);
    root.classList.toggle("tinybert-dark",
      !onPaper && (light ? light === "false" : scheme.matches));
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
      const told = seen.panels.map(panel =>
        `${NAMES[panel]} ${number(seen.tables[panel][row * seen.size + column], seen)}`);
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
  const print = event => { // no frame is drawn between this event and the printed page
    if (event.type !== "change") state.printing = event.type === "beforeprint";
    show();
  };
  paper.addEventListener("change", print);
  for (const name of ["beforeprint", "afterprint"]) window.addEventListener(name, print);
  const themed = new MutationObserver(later); // JupyterLab marks its theme on the body
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  show();
  return () => {
    model.off?.(null, later);
    resized.disconnect();
    themed.disconnect();
    scheme.removeEventListener("change", later);
    paper.removeEventListener("change", print);
    for (const name of ["beforeprint", "afterprint"]) window.removeEventListener(name, print);
  };
}

export default {
  render({ model, el }) {
    return draw(model, el);
  },
};
