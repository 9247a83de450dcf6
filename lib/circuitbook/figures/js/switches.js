// Heads and MLPs switched: what they write, or a head's pattern, is not their own. A node is written
// as the graph has it, a1.h2 or m1.

/** {layer, head} of a node; head: null for an MLP. null if it is no head and no MLP. */
export function placeOf(node) {
  const found = /^(?:a(\d+)\.h(\d+)|m(\d+))$/.exec(node);
  if (!found) return null;
  const [, layer, head, ofMlp] = found;
  return { layer: Number(layer ?? ofMlp), head: head === undefined ? null : Number(head) };
}

/** The edit of `forward` for some switches.
 *
 *  switches: {node: how}, how one of
 *    "zero"   writes nothing
 *    "mean"   writes its mean, of `means`, at every position
 *    "other"  writes what it wrote in the run `other`
 *    "frozen" a head attends as in the run `own`
 *  An MLP's bias is part of what it writes; the bias of the heads' output map is no head's. */
export function switching(switches, shape, { other, own, means }) {
  const places = Object.entries(switches).map(([node, how]) => ({ ...placeOf(node), how }));
  const frozen = new Set(
    places.filter(({ how }) => how === "frozen").map(({ layer, head }) => `${layer}.${head}`),
  );
  const size = shape.width / shape.heads;
  const change = (index, what, out) => {
    for (const { layer, head, how } of places) {
      if (layer !== index || (head === null) !== (what === "mlp") || how === "frozen") continue;
      const part = head === null ? [0, shape.width] : [head * size, (head + 1) * size];
      const source = how === "other" ? other.layers[layer][what] : means?.[layer][what];
      put(out, part, shape.width, how, source);
    }
  };
  return {
    pattern: (layer, head) =>
      frozen.has(`${layer}.${head}`) ? own.layers[layer].patterns[head] : null,
    z: (layer, out) => change(layer, "z", out),
    mlp: (layer, out) => change(layer, "mlp", out),
  };
}

/** Fills the columns [from, to) of every row. */
function put(out, [from, to], width, how, source) {
  for (let a = 0; a < out.length; a += width) {
    for (let i = from; i < to; i++) {
      if (how === "zero") out[a + i] = 0;
      else out[a + i] = how === "mean" ? source[i] : source[a + i];
    }
  }
}

/** What heads and MLPs write on average over all positions of some runs: [{z, mlp}], by layer. */
export function meansOf(runs, width) {
  return runs[0].layers.map((_, layer) =>
    Object.fromEntries(
      ["z", "mlp"].map((what) => [
        what,
        meanRow(
          runs.map((run) => run.layers[layer][what]),
          width,
        ),
      ]),
    ),
  );
}

function meanRow(parts, width) {
  const out = new Float64Array(width);
  let rows = 0;
  for (const part of parts) {
    rows += part.length / width;
    for (let a = 0; a < part.length; a++) out[a % width] += part[a];
  }
  return out.map((value) => value / rows);
}
