// After: view_tables.js
// Numbers as colours, and as text of as many digits as the scale deserves.

function formatted(value, end) {
  if (!Number.isFinite(value)) return "–";
  const digits = end >= 10 ? 1 : Math.min(4, Math.max(2, 2 - Math.ceil(Math.log10(end))));
  return value.toFixed(digits).replace(/^-(?=0\.0+$)/, "").replace("-", "−");
}

const number = (seen, panel, value) => formatted(value, seen.ends[panel]);
const isSigned = (seen, panel) => panel === 2 || seen.kind.signed;

// From a value to a share of the colours, 0 to 1. Where a way takes the root, small values of long
// texts stay visible: 0.01 takes a tenth of the colours.
function strength(seen, panel, value) {
  const share = Math.min(1, Math.abs(value) / seen.ends[panel]) || 0;
  return seen.kind.root ? Math.sqrt(share) : share;
}

function colours(root) {
  const style = getComputedStyle(root);
  const named = name => style.getPropertyValue(name).trim().split(/\s+/).map(Number);
  return { ground: named("--tinybert-ground"), much: named("--tinybert-much"),
           more: named("--tinybert-more"), less: named("--tinybert-less") };
}

function mixed(ground, end, share) {
  return ground.map((from, i) => Math.round(from + (end[i] - from) * share));
}

function shade(seen, panel, value, palette) {
  const end = !isSigned(seen, panel) ? palette.much : value > 0 ? palette.more : palette.less;
  return mixed(palette.ground, end, strength(seen, panel, value));
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
  for (let i = 0; i < 256; i++) bytes.set([...mixed(ground, end, i / 255), 255], 4 * i);
  return new Uint32Array(bytes.buffer);
}

// The numbers below a colour bar, with their place on it from 0 to 1.
function ticks(seen, panel) {
  const end = seen.ends[panel], signed = isSigned(seen, panel);
  const shares = !seen.kind.root ? [0.5, 1] : signed ? [0.1, 0.4, 1] : [0.01, 0.1, 0.4, 1];
  const above = shares.map(share => share * end);
  const values = signed ? [...above.map(value => -value).reverse(), 0, ...above] : [0, ...above];
  return values.map(value => {
    const share = strength(seen, panel, value);
    return [value, signed ? (1 + Math.sign(value) * share) / 2 : share];
  });
}

// Of the numbers below a bar of so many pixels those that do not lie on each other: its ends and 0
// first, then from the right.
function fittingTicks(numbers, pixels, letter) {
  const half = value => (tickText(value).length * letter * 0.62 + 6) / 2, kept = [];
  const order = [numbers[0], numbers[numbers.length - 1], ...numbers.filter(([value]) => value === 0),
    ...numbers.slice().reverse()];
  for (const [value, place] of order)
    if (kept.every(([other, at]) => Math.abs(at - place) * pixels >= half(value) + half(other)))
      kept.push([value, place]);
  return kept;
}

function tickText(value) {
  const written = Math.abs(value) >= 10 ? Math.round(value) : Number(value.toPrecision(2));
  return String(written).replace("-", "−");
}

// What the colours of a panel mean, in words, and the colours from left to right.
function scaleText(seen, panel) {
  const what = wayName(seen.view);
  if (seen.scale === "automatic")
    return panel === 2 ? `difference of ${what}, scale of its own` : `${what}, scale of what is shown`;
  return panel === 2 ? `difference of ${what}, same scale` :
    `${what}, one scale for all ${seen.kind.heads ? "heads" : "layers"}`;
}

function scaleStops(seen, panel, { ground, much, more, less }) {
  return isSigned(seen, panel) ? [less, ground, more] : [ground, much];
}

const wayName = way => ({ "value-weighted": "value-weighted attention", rollout: "attention rollout",
  cosine: "cosine of states" })[way] ?? way;
