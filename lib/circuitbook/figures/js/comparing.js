// Two circuits beside each other: the one that is shown, and that of another checkpoint or of
// another model of the same shape. state.against says which: null for none, the place of a
// checkpoint of this model, or the name of a model, which is taken where it has seen as many tokens.

import { circuitAt, edgesShown, modelOf, nodesOf, sameMoment } from "./circuit-data.js";

const OVER_TIME = { gained: "gained", lost: "lost", kept: "kept" };
const SIDE_BY_SIDE = { gained: "only here", lost: "only there", kept: "in both" };

/** How an edge is drawn: its colour, and the dashes for a line of some width. */
export const FATE_STYLES = {
  gained: ["#0072b2", (width) => `${9 + width} 4`],
  lost: ["#c04f00", (width) => `${Math.max(2, width / 2)} ${3 + width / 2}`],
  kept: ["#6b6b6b", () => "none"],
};

/** Names of the models that the one that is shown can be compared with. */
export function modelsLike({ data, state }) {
  const { layers, heads } = data.models[state.model];
  return Object.keys(data.models).filter((name) => {
    const other = data.models[name];
    return name !== state.model && other.layers === layers && other.heads === heads;
  });
}

/** Where a comparison over training begins: at the first circuit, or else at the first checkpoint. */
export function firstCircuit(view) {
  const entries = view.data.circuits[view.state.model][view.state.task];
  return Math.max(
    0,
    entries.findIndex((entry) => entry && !entry.why),
  );
}

/** The same view of the other circuit; null if nothing is compared. */
export function otherView(view) {
  const { against } = view.state;
  if (against === null) return null;
  const other =
    typeof against === "number"
      ? { at: against }
      : { model: against, at: sameMoment(modelOf(view), view.data.models[against], view.state.at) };
  return { ...view, state: { ...view.state, ...other } };
}

/** The comparison of a circuit's edges, or null if there are not two circuits:
 *
 *  {other: its view, edges: those of both with their `fate` and the score they had `before`, the
 *  kept ones last, counts: {gained, lost, kept}, jaccard, came, went: sets of nodes, words: of each
 *  fate, earlier: whether the other one is an earlier checkpoint} */
export function compare(view, circuit, shown) {
  const other = otherView(view);
  const otherCircuit = other && circuitAt(other);
  if (!circuit || !otherCircuit) return null;
  const old = new Map(edgesShown(other, otherCircuit).map((edge) => [edge.id, edge]));
  const now = new Set(shown.map((edge) => edge.id));
  const of = {
    gained: shown.filter(({ id }) => !old.has(id)),
    lost: [...old.values()].filter(({ id }) => !now.has(id)),
    kept: shown.filter(({ id }) => old.has(id)),
  };
  const edges = Object.entries(of).flatMap(([fate, some]) =>
    some.map((edge) => ({ ...edge, fate, before: old.get(edge.id)?.score })),
  );
  const [nodes, oldNodes] = [nodesOf(shown), nodesOf(old.values())];
  const earlier = other.state.model === view.state.model && other.state.at <= view.state.at;
  return {
    other,
    edges,
    counts: Object.fromEntries(Object.entries(of).map(([fate, some]) => [fate, some.length])),
    jaccard: edges.length ? of.kept.length / edges.length : 0,
    came: new Set([...nodes].filter((node) => !oldNodes.has(node))),
    went: new Set([...oldNodes].filter((node) => !nodes.has(node))),
    words: earlier ? OVER_TIME : SIDE_BY_SIDE,
    earlier,
  };
}
