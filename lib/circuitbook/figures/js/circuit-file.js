// A circuit as a file: what `Circuit.load` of circuits/circuit.py reads, and EAP-IG and MIB.

import { nodesOf } from "./circuit-data.js";

/** shape: of the model; built: see `builtCircuit`; numbers: {faithfulness, clean, corrupted} on the
 *  pair, null where there are none; about: what the library needs to evaluate it there. Scores are
 *  those that the page has, else 0. */
export function circuitRecord(shape, built, numbers, about) {
  const { all, now } = built;
  const inside = nodesOf([...now].map((id) => all.get(id)));
  const nodes = nodesOf([...all.values()]);
  return {
    cfg: {
      n_layers: shape.layers,
      n_heads: shape.heads,
      d_model: shape.width,
      parallel_attn_mlp: true,
    },
    nodes: Object.fromEntries([...nodes].map((node) => [node, { in_graph: inside.has(node) }])),
    edges: Object.fromEntries(
      [...all.values()].map(({ id, name, score }) => [
        name,
        { score: score ?? 0, in_graph: now.has(id) },
      ]),
    ),
    circuitbook: {
      ...numbers,
      low: null,
      high: null,
      reason: "",
      scored: false,
      curve: null,
      about,
    },
  };
}

/** Hands the record to the reader as a file. */
export function download(record, name) {
  const file = new Blob([JSON.stringify(record)], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
