// The graph: the same numbers and names as circuitbook.model.graph. a2.h1 is a head, m2 an MLP.

export const INPUT_NAMES = { q: "queries", k: "keys", v: "values" };

/** An edge from its number src * n_dst + dst: {id, from, to, kind, name}; kind is "q", "k", "v" or
 *  "". */
export function decodeEdge(id, { layers, heads }) {
  const sourcesOfLayer = heads + 1;
  const columnsOfLayer = 3 * heads + 1;
  const nDestinations = layers * columnsOfLayer + 1;
  const source = Math.floor(id / nDestinations);
  const from =
    source === 0
      ? "input"
      : nodeAt(Math.floor((source - 1) / sourcesOfLayer), (source - 1) % sourcesOfLayer, heads);
  const { to, kind } = destination(id % nDestinations, layers, heads);
  return { id, from, to, kind, name: `${from}->${to}${kind && `<${kind}>`}` };
}

function destination(column, layers, heads) {
  const layer = Math.floor(column / (3 * heads + 1));
  const slot = column % (3 * heads + 1);
  if (layer === layers) return { to: "logits", kind: "" };
  if (slot === 3 * heads) return { to: `m${layer}`, kind: "" };
  return { to: nodeAt(layer, slot % heads, heads), kind: "qkv"[Math.floor(slot / heads)] };
}

function nodeAt(layer, place, heads) {
  return place === heads ? `m${layer}` : `a${layer}.h${place}`;
}

export function isHead(node) {
  return node[0] === "a";
}

/** nodeLabel("a2.h1") -> "2.1", nodeLabel("m2") -> "MLP 2" */
export function nodeLabel(node) {
  if (isHead(node)) return node.slice(1).replace(".h", ".");
  return node[0] === "m" ? `MLP ${node.slice(1)}` : node;
}

/** spokenName("a2.h1") -> "head 2.1" */
export function spokenName(node) {
  return isHead(node) ? `head ${nodeLabel(node)}` : nodeLabel(node);
}
