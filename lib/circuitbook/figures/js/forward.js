// GPT-NeoX on one sentence, as model/network.py has it. Streams are Float64Array [position, width];
// what heads write (z, before the output map) is one, too: head after head.

import { gelu, layerNorm, linear, sum } from "./maths.js";

/** The stream that enters. */
export function embed({ embed: rows, shape: { width } }, tokens) {
  const out = new Float64Array(tokens.length * width);
  tokens.forEach((token, i) => {
    out.set(rows.subarray(token * width, (token + 1) * width), i * width);
  });
  return out;
}

/** Runs a sentence. edit: {pattern(layer, head), z(layer, z), mlp(layer, out)} may give what takes
 *  the place of an attention pattern (null: its own), or change what is written, in place.
 *
 *  Gives {layers: [{x, q, k, v, patterns, z, mlp}], last}: per layer the stream that it reads,
 *  queries and keys after rotary, values, one pattern [query, key] per head, what heads and the MLP
 *  write; and the last stream. */
export function forward(model, tokens, edit = {}) {
  const { shape } = model;
  let x = embed(model, tokens);
  const layers = model.layers.map((layer, index) => {
    const done = { x, ...queriesKeysValues(layer, x, shape), patterns: [] };
    done.z = new Float64Array(x.length);
    for (let head = 0; head < shape.heads; head++) {
      const given = edit.pattern?.(index, head) ?? null;
      done.patterns.push(given ?? attentionPattern(done.q, done.k, head, shape));
      attend(done.patterns[head], done.v, done.z, head, shape);
    }
    edit.z?.(index, done.z);
    done.mlp = mlp(layer, x, shape);
    edit.mlp?.(index, done.mlp);
    x = sum(sum(x, linear(done.z, layer.output.weight, layer.output.bias, shape.width)), done.mlp);
    return done;
  });
  return { layers, last: x };
}

/** Logits of the last stream at a position; the last one, unless told. */
export function logits({ normFinal, unembed, shape: { width } }, last, position = -1) {
  const start = position < 0 ? last.length + position * width : position * width;
  const row = layerNorm(last.subarray(start, start + width), normFinal);
  return linear(row, unembed, null, width);
}

function queriesKeysValues(layer, x, shape) {
  const { width, heads } = shape;
  const size = width / heads;
  const read = layerNorm(x, layer.normAttention);
  const all = linear(read, layer.qkv.weight, layer.qkv.bias, width);
  const parts = { q: null, k: null, v: null };
  Object.keys(parts).forEach((kind, i) => {
    const part = new Float64Array(x.length);
    for (let a = 0; a < x.length; a += size) {
      const head = (a % width) / size;
      const from = 3 * (a - head * size) + (3 * head + i) * size;
      part.set(all.subarray(from, from + size), a);
    }
    parts[kind] = kind === "v" ? part : rotated(part, size, width, shape);
  });
  return parts;
}

/** Rotary embedding of the first `rotary` numbers of every `size`, at the position that the row of
 *  `width` numbers stands at; in place. */
export function rotated(part, size, width, { rotary, base }) {
  const half = rotary / 2;
  for (let i = 0; i < half; i++) {
    const frequency = base ** ((-2 * i) / rotary);
    for (let a = i; a < part.length; a += size) {
      const angle = Math.floor(a / width) * frequency;
      const [first, second] = [part[a], part[a + half]];
      part[a] = first * Math.cos(angle) - second * Math.sin(angle);
      part[a + half] = second * Math.cos(angle) + first * Math.sin(angle);
    }
  }
  return part;
}

/** How much each position attends to each before it and to itself: [query, key]. */
export function attentionPattern(q, k, head, { width, heads }) {
  const size = width / heads;
  const length = q.length / width;
  const out = new Float64Array(length * length);
  for (let t = 0; t < length; t++) {
    let top = Number.NEGATIVE_INFINITY;
    for (let s = 0; s <= t; s++) {
      const [a, b] = [t * width + head * size, s * width + head * size];
      let score = 0;
      for (let e = 0; e < size; e++) score += q[a + e] * k[b + e];
      out[t * length + s] = score / Math.sqrt(size);
      top = Math.max(top, out[t * length + s]);
    }
    let total = 0;
    for (let s = 0; s <= t; s++) {
      out[t * length + s] = Math.exp(out[t * length + s] - top);
      total += out[t * length + s];
    }
    for (let s = 0; s <= t; s++) out[t * length + s] /= total;
  }
  return out;
}

/** Puts what a head gathers of the values into its place in z. */
export function attend(pattern, v, z, head, { width, heads }) {
  const size = width / heads;
  const length = v.length / width;
  for (let t = 0; t < length; t++) {
    const place = t * width + head * size;
    for (let s = 0; s <= t; s++) {
      const weight = pattern[t * length + s];
      for (let e = 0; e < size; e++) z[place + e] += weight * v[s * width + head * size + e];
    }
  }
}

/** What an MLP writes that reads the stream x. */
export function mlp({ normMlp, into, out }, x, { width, hidden }) {
  const inside = gelu(linear(layerNorm(x, normMlp), into.weight, into.bias, width));
  return linear(inside, out.weight, out.bias, hidden);
}
