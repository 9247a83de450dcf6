// A circuit's edges alone carry the clean sentence: circuits/evaluation.py, one sentence at a time.
//
// Every input reads the corrupted stream plus, over its sources in the circuit, what they write now
// less what they wrote corrupted. A node that the circuit does not reach writes what it wrote
// corrupted. Sources and destinations are numbered as in model/graph.py.

import { attend, attentionPattern, embed, forward, mlp, rotated } from "./forward.js";
import { layerNorm, linear, sum } from "./maths.js";

const KINDS = ["q", "k", "v"];

/** The last stream with the edges [[src, dst], ...] clean and all others corrupted. */
export function lastOfCircuit(model, clean, corrupted, edges) {
  const { shape } = model;
  const run = forward(model, corrupted);
  const into = new Map();
  for (const [src, dst] of edges) into.set(dst, [...(into.get(dst) ?? []), src]);
  const moved = [sum(embed(model, clean), run.layers[0].x, -1)];
  const read = (dst, x) => {
    if (!into.has(dst)) return null;
    return into
      .get(dst)
      .reduce((stream, src) => (moved[src] ? sum(stream, moved[src]) : stream), x);
  };
  model.layers.forEach((layer, index) => {
    const before = run.layers[index];
    const dst = index * (3 * shape.heads + 1);
    const src = 1 + index * (shape.heads + 1);
    for (let head = 0; head < shape.heads; head++) {
      const streams = KINDS.map((_, i) => read(dst + i * shape.heads + head, before.x));
      moved[src + head] = changeOfHead(layer, before, head, streams, shape);
    }
    const stream = read(dst + 3 * shape.heads, before.x);
    moved[src + shape.heads] = stream ? sum(mlp(layer, stream, shape), before.mlp, -1) : null;
  });
  return read(shape.layers * (3 * shape.heads + 1), run.last) ?? run.last;
}

/** What a head writes more than corrupted if its q, k and v read these streams; null: as corrupted. */
function changeOfHead(layer, before, head, streams, shape) {
  if (streams.every((stream) => stream === null)) return null;
  const [q, k, v] = KINDS.map((kind, i) =>
    streams[i] ? projected(layer, streams[i], head, kind, shape) : before[kind],
  );
  const z = new Float64Array(before.z.length);
  attend(attentionPattern(q, k, head, shape), v, z, head, shape);
  return written(layer, sum(z, before.z, -1), head, shape);
}

/** Queries, keys or values of one head, in their place among those of all heads. */
function projected({ normAttention, qkv }, x, head, kind, shape) {
  const { width, heads } = shape;
  const size = width / heads;
  const first = (3 * head + KINDS.indexOf(kind)) * size;
  const weight = qkv.weight.subarray(first * width, (first + size) * width);
  const bias = qkv.bias.subarray(first, first + size);
  const part = linear(layerNorm(x, normAttention), weight, bias, width);
  if (kind !== "v") rotated(part, size, size, shape);
  const out = new Float64Array(x.length);
  for (let t = 0; t < x.length / width; t++) {
    out.set(part.subarray(t * size, (t + 1) * size), t * width + head * size);
  }
  return out;
}

/** What a head's z writes into the stream, without the bias. */
export function written({ output: { weight } }, z, head, { width, heads }) {
  const size = width / heads;
  const out = new Float64Array(z.length);
  for (let a = 0; a < z.length; a += width) {
    for (let o = 0; o < width; o++) {
      let total = 0;
      for (let i = head * size; i < (head + 1) * size; i++)
        total += z[a + i] * weight[o * width + i];
      out[a + o] = total;
    }
  }
  return out;
}
