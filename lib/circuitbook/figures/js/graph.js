// The graph: the same numbers and names as circuitbook.model.graph. a2.h1 is a head, m2 an MLP.

export const INPUT_NAMES = { q: "queries", k: "keys", v: "values" };

/** An edge from its number src * n_dst + dst: {id, from, to, kind, name}; kind is "q", "k", "v" or
 *  "". */
export function decodeEdge(id, { layers, heads }) {
  const columnsOfLayer = 3 * heads + 1;
  const nDestinations = layers * columnsOfLayer + 1;
  const source = Math.floor(id / nDestinations);
  const from = source === 0 ? "input" : sourceNode(source, heads);
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

/** sourceNode(6, 4) -> "a1.h0" */
export function sourceNode(source, heads) {
  return nodeAt(Math.floor((source - 1) / (heads + 1)), (source - 1) % (heads + 1), heads);
}

/** sourceNumber("a1.h0", 4) -> 6; of a head or an MLP */
export function sourceNumber(node, heads) {
  const [layer, head] = node.slice(1).split(".h").map(Number);
  return 1 + layer * (heads + 1) + (isHead(node) ? head : heads);
}

function nodeAt(layer, place, heads) {
  return place === heads ? `m${layer}` : `a${layer}.h${place}`;
}

/** Numbers of all edges of a model with parallel blocks, ascending. */
export function edgeIds({ layers, heads }) {
  const columnsOfLayer = 3 * heads + 1;
  const nDestinations = layers * columnsOfLayer + 1;
  const ids = [];
  for (let source = 0; source <= layers * (heads + 1); source++) {
    const layer = Math.ceil(source / (heads + 1)); // of the first that reads it
    for (let dst = layer * columnsOfLayer; dst < nDestinations; dst++) {
      ids.push(source * nDestinations + dst);
    }
  }
  return ids;
}

export function isHead(node) {
  return node[0] === "a";
}

/** nodeLabel("a2.h1") -> "2.1", nodeLabel("m2") -> "MLP 2", nodeLabel("@movers"), a group -> "movers" */
export function nodeLabel(node) {
  if (node[0] === "@") return node.slice(1);
  if (isHead(node)) return node.slice(1).replace(".h", ".");
  return node[0] === "m" ? `MLP ${node.slice(1)}` : node;
}

/** spokenName("a2.h1") -> "head 2.1" */
export function spokenName(node) {
  if (node[0] === "@") return `group ${nodeLabel(node)}`;
  return isHead(node) ? `head ${nodeLabel(node)}` : nodeLabel(node);
}
