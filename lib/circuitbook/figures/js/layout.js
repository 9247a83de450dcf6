// Every node has its place once and for all, in the circuit or not: so nothing moves while a
// circuit grows.

export const MARGIN = 62; // for the names of layers
const SLOT = 66; // width that a node has to itself
const BELOW = 26; // from `input` to the lower end

/** {nodes: Map of node -> {x, y, row, w, h}, width, height, rowHeight, lines: y of each layer}; w and h
 *  are half of a node's size. groups: [{node, members}], each drawn as one box at the place of the
 *  member that is most in the middle. */
export function layOut({ layers, heads }, groups = []) {
  const rowHeight = layers > 12 ? 62 : 78;
  const width = MARGIN + (heads + 1.5) * SLOT + 14;
  const height = (layers + 1) * rowHeight + 56;
  const middle = MARGIN + ((heads + 1.5) * SLOT) / 2;
  const nodes = new Map();
  const lines = [];
  nodes.set("input", { x: middle, y: height - BELOW, row: 0, w: 33, h: 14 });
  for (let layer = 0; layer < layers; layer++) {
    const row = layer + 1;
    const y = height - BELOW - row * rowHeight;
    const shift = ((layer % 2) * SLOT) / 2; // lines that skip a layer pass between
    for (let head = 0; head < heads; head++) {
      const x = MARGIN + (head + 0.5) * SLOT + shift;
      nodes.set(`a${layer}.h${head}`, { x, y, row, w: 19, h: 19 });
    }
    const x = MARGIN + (heads + 0.5) * SLOT + shift;
    nodes.set(`m${layer}`, { x, y: y - 4, row, w: 28, h: 14 });
    lines.push(y);
  }
  nodes.set("logits", { x: middle, y: 24, row: layers + 1, w: 33, h: 14 });
  for (const { node, members } of groups) {
    const places = members.map((member) => nodes.get(member));
    for (const member of members) nodes.delete(member);
    nodes.set(node, { ...middleOf(places), w: 32, h: 17 });
  }
  return { nodes, width, height, rowHeight, lines };
}

/** The place that is nearest to the mean of all. */
function middleOf(places) {
  const mean = (key) => places.reduce((all, place) => all + place[key], 0) / places.length;
  const [x, y] = [mean("x"), mean("y")];
  const apart = (place) => Math.hypot(place.x - x, place.y - y);
  return places.reduce((best, place) => (apart(place) < apart(best) ? place : best));
}

/** The line of an edge from place a up to place b; queries enter a head at its left, values at its
 *  right. */
export function route(a, b, kind) {
  const port = { q: -10, k: 0, v: 10, "": 0 }[kind];
  const start = { x: a.x, y: a.y - a.h };
  const end = { x: b.x + port, y: b.y + b.h };
  const skips = b.row - a.row > 1;
  const near = Math.abs(b.x - a.x) < SLOT * 0.6;
  const side = kind === "q" || (kind === "k" && b.x < a.x) ? -1 : 1;
  const bow = skips && near ? SLOT * 0.62 * side : 0; // around the nodes between
  const pull = Math.max(14, (start.y - end.y) * (skips ? 0.38 : 0.5));
  const bends = `${start.x + bow} ${start.y - pull} ${end.x + bow} ${end.y + pull}`;
  return `M${start.x} ${start.y}C${bends} ${end.x} ${end.y}`;
}
