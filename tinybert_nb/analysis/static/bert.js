// BERT's forward pass, for one text, with int8 weights: from token ids to logits.
//
// Arrays of numbers are flat, row by row, one row for each token: the number at [token, unit] is at
// token * width + unit. The names of weights are those of the transformers library.

const erf = x => { // Abramowitz and Stegun, 7.1.26: within 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const polynomial = t * (0.254829592 + t * (-0.284496736 +
    t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - polynomial * Math.exp(-x * x));
};
const geluTanh = x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const silu = x => x / (1 + Math.exp(-x));
const ACTIVATIONS = {
  gelu: x => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  gelu_new: geluTanh, gelu_pytorch_tanh: geluTanh,
  relu: x => Math.max(0, x), tanh: Math.tanh, silu, swish: silu,
};

// The softmax of one row, in place.
function softmax(row) {
  const most = row.reduce((a, b) => Math.max(a, b), -Infinity);
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i] = Math.exp(row[i] - most);
  for (let i = 0; i < row.length; i++) row[i] /= sum;
  return row;
}

class Bert {
  // `settings` describe the model; `bytes` hold its weights, `tensors` where each one is. A matrix
  // is int8, its rows are to be multiplied by the float32 scales that follow it; a vector is float32.
  constructor(settings, bytes) {
    Object.assign(this, settings);
    this.weights = {};
    for (const { name, rows, columns, at } of settings.tensors) {
      const floatsAt = at + 4 * Math.ceil((rows * columns) / 4); // a float begins at multiples of four
      this.weights[name] = columns === 0 ? new Float32Array(bytes.buffer, at, rows) : {
        rows, columns, values: new Int8Array(bytes.buffer, at, rows * columns),
        scales: new Float32Array(bytes.buffer, floatsAt, rows) };
    }
  }

  // y = x Wᵀ + b. The products are of whole numbers of W, four tokens at a time; its scale, the same
  // for a row, comes last.
  linear(x, name) {
    const { rows, columns, values, scales } = this.weights[`${name}.weight`];
    const bias = this.weights[`${name}.bias`], count = x.length / columns;
    const y = new Float64Array(count * rows), row = new Float64Array(columns);
    for (let unit = 0; unit < rows; unit++) {
      for (let i = 0; i < columns; i++) row[i] = values[unit * columns + i];
      const scale = scales[unit], shift = bias[unit];
      let token = 0;
      for (; token + 3 < count; token += 4) {
        const a = token * columns, b = a + columns, c = b + columns, d = c + columns;
        let sumA = 0, sumB = 0, sumC = 0, sumD = 0;
        for (let i = 0; i < columns; i++) {
          const weight = row[i];
          sumA += weight * x[a + i];
          sumB += weight * x[b + i];
          sumC += weight * x[c + i];
          sumD += weight * x[d + i];
        }
        const at = token * rows + unit;
        y[at] = sumA * scale + shift;
        y[at + rows] = sumB * scale + shift;
        y[at + 2 * rows] = sumC * scale + shift;
        y[at + 3 * rows] = sumD * scale + shift;
      }
      for (; token < count; token++) {
        let sum = 0;
        for (let i = 0; i < columns; i++) sum += row[i] * x[token * columns + i];
        y[token * rows + unit] = sum * scale + shift;
      }
    }
    return y;
  }

  // Each token's row to mean 0 and variance 1, then times gain plus bias. In place.
  layerNorm(x, name) {
    const gain = this.weights[`${name}.weight`], bias = this.weights[`${name}.bias`];
    const width = gain.length;
    for (let from = 0; from < x.length; from += width) {
      let mean = 0, variance = 0;
      for (let i = 0; i < width; i++) mean += x[from + i] / width;
      for (let i = 0; i < width; i++) variance += (x[from + i] - mean) ** 2 / width;
      const factor = 1 / Math.sqrt(variance + this.epsilon);
      for (let i = 0; i < width; i++) x[from + i] = (x[from + i] - mean) * factor * gain[i] + bias[i];
    }
    return x;
  }

  // Word + position + segment, normalized.
  embed(ids, types) {
    const width = this.hiddenSize, x = new Float64Array(ids.length * width);
    const add = (name, row, from) => {
      const { values, scales } = this.weights[`embeddings.${name}_embeddings.weight`];
      for (let i = 0; i < width; i++) x[from + i] += values[row * width + i] * scales[row];
    };
    ids.forEach((id, place) => {
      add("word", id, place * width);
      add("position", place, place * width);
      add("token_type", types[place], place * width);
    });
    return this.layerNorm(x, "embeddings.LayerNorm");
  }

  // softmax(Q Kᵀ / √d) V for each head. `scores` gets what stands before the softmax:
  // (heads, query, key).
  attend(x, name, scores) {
    const [query, key, value] = ["query", "key", "value"].map(part => this.linear(x, `${name}.${part}`));
    const width = this.hiddenSize, size = x.length / width, depth = width / this.heads;
    const mixed = new Float64Array(x.length), row = new Float64Array(size);
    for (let head = 0; head < this.heads; head++) {
      const offset = head * depth;
      for (let from = 0; from < size; from++) {
        for (let to = 0; to < size; to++) {
          let sum = 0;
          for (let i = offset; i < offset + depth; i++) sum += query[from * width + i] * key[to * width + i];
          row[to] = sum / Math.sqrt(depth);
        }
        scores.set(row, (head * size + from) * size);
        softmax(row);
        for (let to = 0; to < size; to++) {
          for (let i = offset; i < offset + depth; i++)
            mixed[from * width + i] += row[to] * value[to * width + i];
        }
      }
    }
    return mixed;
  }

  // One layer: attention, then the feed-forward network, each added to its input and normalized.
  layer(x, name, scores) {
    const add = (sum, more) => sum.map((value, i) => value + more[i]);
    const mixed = this.attend(x, `${name}.attention.self`, scores);
    x = this.layerNorm(add(this.linear(mixed, `${name}.attention.output.dense`), x),
      `${name}.attention.output.LayerNorm`);
    const inner = this.linear(x, `${name}.intermediate.dense`).map(ACTIVATIONS[this.activation]);
    return this.layerNorm(add(this.linear(inner, `${name}.output.dense`), x), `${name}.output.LayerNorm`);
  }

  // The logits: of each token, or of the whole text, from [CLS] through the pooler.
  classify(x) {
    if (!this.ofTokens) x = this.linear(x.slice(0, this.hiddenSize), "pooler.dense").map(Math.tanh);
    if (this.classifierActivation) x = x.map(ACTIVATIONS[this.classifierActivation]);
    return this.linear(x, "classifier");
  }

  // The forward pass layer by layer: it stops after each one until it is asked to go on, so that a
  // large model can leave the browser time for other things. Returns the logits and all scores.
  *steps({ ids, types }) {
    const scores = [];
    let x = this.embed(ids, types);
    for (let number = 0; number < this.layers; number++) {
      scores.push(new Float32Array(this.heads * ids.length ** 2));
      x = this.layer(x, `encoder.layer.${number}`, scores[number]);
      yield number;
    }
    return { logits: this.classify(x), scores };
  }

  // The forward pass at once.
  forward(encoded) {
    const steps = this.steps(encoded);
    let step;
    do step = steps.next(); while (!step.done);
    return step.value;
  }
}
