// What a node writes at the last position, straight to the logits: its direct effect.

import { written } from "./edges.js";
import { deviation, linear } from "./maths.js";
import { placeOf } from "./switches.js";

/** Of each word, in logits: what the node writes at the last position (an MLP with its bias, a head
 *  without that of the output map; "input": the word's embedding), less its mean over the stream,
 *  over the deviation that the final LayerNorm divides this run's stream by, times the norm's weight
 *  and the unembedding; less the mean over the vocabulary. Those of all nodes and the biases add up
 *  to the logits, less their mean. */
export function directEffect(model, run, node) {
  const { normFinal, unembed, shape } = model;
  const scale = deviation(atEnd(run.last, shape), normFinal.eps);
  const out = writtenAtEnd(model, run, node);
  const mean = meanOf(out);
  const read = out.map((value, i) => ((value - mean) / scale) * normFinal.weight[i]);
  const effect = linear(read, unembed, null, shape.width);
  const middle = meanOf(effect);
  return effect.map((value) => value - middle);
}

function writtenAtEnd({ layers, shape }, run, node) {
  if (node === "input") return atEnd(run.layers[0].x, shape);
  const { layer, head } = placeOf(node);
  const done = run.layers[layer];
  if (head === null) return atEnd(done.mlp, shape);
  return written(layers[layer], atEnd(done.z, shape), head, shape);
}

function atEnd(rows, { width }) {
  return rows.subarray(rows.length - width);
}

function meanOf(values) {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
