// Helpers of the attention view that know nothing of attention: elements, bytes, words.

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// An element of a vector graphic; its namespace is that of any <svg> which a page's parser makes.
const GRAPHICS = new DOMParser().parseFromString("<svg/>", "text/html").body.firstChild.namespaceURI;

function graphic(name, attributes = {}, ...children) {
  return fill(document.createElementNS(GRAPHICS, name), attributes, children);
}

// A native control with its name before it.
function named(text, ...parts) {
  return element("label", {}, element("span", { text }), ...parts);
}

function choice(control, options) {
  return element("select", { "data-control": control }, ...options.map(([value, text]) =>
    element("option", { value, text: text ?? value })));
}

function floats(data) {
  if (data instanceof Float32Array) return data;
  // a DataView over a websocket need not begin at a multiple of four
  const bytes = new Uint8Array(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength);
  return new Float32Array(bytes.slice().buffer);
}

// A token within a sentence, isolated so that right-to-left text does not reorder what surrounds it.
function isolated(token) {
  return `\u2068${token}\u2069`;
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
