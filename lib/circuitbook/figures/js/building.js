// A circuit that a reader builds: from the one that was found, from nothing or from everything, with
// some edges added and some removed.
//
// Of the lab's state: base, "found", "nothing" or "everything"; size, of "found", as in the explorer;
// added, removed: Sets of the numbers of edges.

import { circuitAt, edgesShown, modelOf } from "./circuit-data.js";
import { decodeEdge, edgeIds } from "./graph.js";

/** {circuit: of the search, or null; all: Map of number -> edge; found: numbers of the found circuit's
 *  edges; start, now: Sets of numbers; live: those of `now` that lie on a path from input to logits} */
export function builtCircuit(view, { base, added, removed }) {
  const circuit = circuitAt(view);
  const all = edgesOfModel(view, circuit);
  const numbers = (edges) => edges.map(({ id }) => id);
  const found = circuit ? circuit.edges.filter(({ enters }) => enters <= circuit.own) : [];
  const starts = {
    found: () => (circuit ? numbers(edgesShown(view, circuit)) : []),
    nothing: () => [],
    everything: () => [...all.keys()],
  };
  const start = new Set(starts[base]());
  const now = new Set([...start].filter((id) => !removed.has(id)));
  for (const id of added) if (all.has(id)) now.add(id);
  const live = new Set(numbers(onAPath([...now].map((id) => all.get(id)))));
  return { circuit, all, found: new Set(numbers(found)), start, now, live };
}

/** All edges of the model; score: null of those that the search's data do not have. */
function edgesOfModel(view, circuit) {
  const model = modelOf(view);
  const scores = new Map((circuit?.edges ?? []).map(({ id, score }) => [id, score]));
  return new Map(
    edgeIds(model).map((id) => [id, { ...decodeEdge(id, model), score: scores.get(id) ?? null }]),
  );
}

/** Those that what `input` says can reach, and that can reach `logits`: Graph.live. */
function onAPath(edges) {
  const ordered = edges.slice().sort((a, b) => a.id - b.id); // by source, so from below
  const fed = new Set(["input"]);
  for (const { from, to } of ordered) if (fed.has(from)) fed.add(to);
  const read = new Set(["logits"]);
  for (const { from, to } of ordered.reverse()) if (read.has(to)) read.add(from);
  return edges.filter(({ from, to }) => fed.has(from) && read.has(to));
}

/** {added, removed} after an edge was taken out or put in. */
export function edgeChanged({ start, now }, { added, removed }, id) {
  const changed = { added: new Set(added), removed: new Set(removed) };
  const [undo, more] = now.has(id)
    ? [changed.added, start.has(id) && changed.removed]
    : [changed.removed, !start.has(id) && changed.added];
  undo.delete(id);
  if (more) more.add(id);
  return changed;
}

/** {shared, jaccard} of two Sets; two empty ones have a Jaccard of 0. */
export function compared(a, b) {
  const shared = [...a].filter((id) => b.has(id)).length;
  const either = a.size + b.size - shared;
  return { shared, jaccard: either ? shared / either : 0 };
}
