// Maps of rows of numbers. Activations are Float64Array [row, column], row after row; weights are
// Float32Array, as torch.nn.Linear has them: [out, in].

/** x W^T + b of each row. weight: [outputs, inputs]; bias: [outputs] or null. */
export function linear(x, weight, bias, inputs) {
  const rows = x.length / inputs;
  const outputs = weight.length / inputs;
  const out = new Float64Array(rows * outputs);
  const whole = rows - (rows % 4); // four rows at a time share what is read of the weights
  for (let o = 0; o < outputs; o++) {
    const w = o * inputs;
    const start = bias ? bias[o] : 0;
    for (let r = 0; r < whole; r += 4)
      fourRows(x, weight, out, { w, inputs, outputs, r, o, start });
    for (let r = whole; r < rows; r++) {
      let sum = start;
      for (let i = 0, a = r * inputs; i < inputs; i++) sum += x[a + i] * weight[w + i];
      out[r * outputs + o] = sum;
    }
  }
  return out;
}

function fourRows(x, weight, out, { w, inputs, outputs, r, o, start }) {
  const a = r * inputs;
  const b = a + inputs;
  const c = b + inputs;
  const d = c + inputs;
  let first = start;
  let second = start;
  let third = start;
  let fourth = start;
  for (let i = 0; i < inputs; i++) {
    const factor = weight[w + i];
    first += x[a + i] * factor;
    second += x[b + i] * factor;
    third += x[c + i] * factor;
    fourth += x[d + i] * factor;
  }
  const place = r * outputs + o;
  out[place] = first;
  out[place + outputs] = second;
  out[place + 2 * outputs] = third;
  out[place + 3 * outputs] = fourth;
}

/** weight * (x - mean) / sqrt(variance + eps) + bias of each row. */
export function layerNorm(x, { weight, bias, eps }) {
  const width = weight.length;
  const out = new Float64Array(x.length);
  for (let a = 0; a < x.length; a += width) {
    let mean = 0;
    for (let i = 0; i < width; i++) mean += x[a + i];
    mean /= width;
    let variance = 0;
    for (let i = 0; i < width; i++) variance += (x[a + i] - mean) ** 2;
    const scale = 1 / Math.sqrt(variance / width + eps);
    for (let i = 0; i < width; i++) out[a + i] = (x[a + i] - mean) * scale * weight[i] + bias[i];
  }
  return out;
}

/** sqrt(variance + eps) of a row. */
export function deviation(row, eps) {
  const mean = row.reduce((a, b) => a + b, 0) / row.length;
  return Math.sqrt(row.reduce((all, value) => all + (value - mean) ** 2, 0) / row.length + eps);
}

/** x Phi(x), in place: the exact gelu, not the one with tanh. */
export function gelu(x) {
  for (let i = 0; i < x.length; i++) x[i] *= 0.5 * (1 + erf(x[i] * Math.SQRT1_2));
  return x;
}

/** To 1.5e-7: Abramowitz and Stegun 7.1.26. */
function erf(x) {
  const size = Math.abs(x);
  const t = 1 / (1 + 0.3275911 * size);
  const series =
    t *
    (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  const value = 1 - series * Math.exp(-size * size);
  return x < 0 ? -value : value;
}

/** Probabilities of some logits. */
export function softmax(logits) {
  const top = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const out = Float64Array.from(logits, (value) => Math.exp(value - top));
  const total = out.reduce((a, b) => a + b, 0);
  return out.map((value) => value / total);
}

/** a + b, or a + factor b; as a new array. */
export function sum(a, b, factor = 1) {
  const out = new Float64Array(a);
  for (let i = 0; i < out.length; i++) out[i] += factor * b[i];
  return out;
}
