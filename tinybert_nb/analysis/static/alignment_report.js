// The attention views of a report opened from disk: the data that a kernel sends in JupyterLab
// comes from the page itself. Each place holds the name of a JSON block
//   {tokens, segments, layers, heads, windows, layer, head, token, largest, teacher, student}
// whose last two are scores (layers, heads, query, key) in float16, base64.

function fromHalves(bytes) {
  const halves = new Uint16Array(bytes.slice().buffer);
  return Float32Array.from(halves, half => {
    const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 31, rest = half & 1023;
    if (exponent === 31) return rest ? NaN : sign * Infinity;
    return sign * (exponent ? (1 + rest / 1024) * 2 ** (exponent - 15) : rest * 2 ** -24);
  });
}

function modelOf(data) {
  const bytesOf = side => Uint8Array.from(atob(data[side]), letter => letter.charCodeAt(0));
  const sides = { teacher: bytesOf("teacher"), student: bytesOf("student") };
  const { layer, head, token } = data;
  const values = { layer, head, view: "probabilities", token }, listeners = [];
  const sight = () => {
    const bytes = 2 * data.tokens.length ** 2;
    const at = ((values.layer - 1) * data.heads + values.head - 1) * bytes;
    const seen = { ...data, layer: values.layer, head: values.head };
    for (const side of ["teacher", "student"]) seen[side] = fromHalves(sides[side].slice(at, at + bytes));
    return seen;
  };
  values.sight = sight();
  return {
    get: name => values[name],
    set(name, value) {
      values[name] = value;
      if (name === "layer" || name === "head") values.sight = sight();
    },
    save_changes: () => new Set(listeners).forEach(listener => listener()),
    on: (name, listener) => listeners.push(listener),
  };
}

for (const place of document.querySelectorAll("[data-sight]")) {
  draw(modelOf(JSON.parse(document.getElementById(place.dataset.sight).textContent)), place);
}
