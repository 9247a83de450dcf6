// What is asked of the data: explorer_data and circuit_data in explorer.py say what they mean.
//
// A view is {data, state, ...}; its state {model, task, at, size, node, against}: `at` is the place
// of the checkpoint among the model's, `size` a number of edges or null for the circuit's own,
// `node` the one that is selected or null, `against` what it is compared with: see comparing.js.

import { decodeEdge } from "./graph.js";
import { clamp, shortNumber } from "./words.js";

/** What is known of a checkpoint (the state's own unless `at` is given): a circuit, {why: ...} or
 *  null. */
export function entryAt({ data, state }, at = state.at) {
  return data.circuits[state.model]?.[state.task]?.[at];
}

/** The circuit of a checkpoint with its edges decoded, {edges, own, end, size, curve, ...}; null if
 *  there is none. */
export function circuitAt(view, at = view.state.at) {
  const entry = entryAt(view, at);
  if (!entry || entry.why) return null;
  if (!view.decoded.has(entry)) view.decoded.set(entry, decodeCircuit(entry, modelOf(view)));
  return view.decoded.get(entry);
}

function decodeCircuit(entry, model) {
  let enters = 0;
  const edges = entry.edges.map((id, i) => {
    enters += entry.enters[i];
    return { ...decodeEdge(id, model), enters, score: entry.scores[i] };
  });
  return { ...entry, own: Math.min(entry.size, entry.end), edges };
}

/** Layers, heads, steps and tokens of the model that is shown. */
export function modelOf({ data, state }) {
  return data.models[state.model];
}

export function sizeShown({ state }, circuit) {
  return state.size === null ? circuit.own : clamp(state.size, 1, circuit.end);
}

/** The edges of a circuit at the size that is shown, in the order in which they enter. */
export function edgesShown(view, circuit) {
  const size = sizeShown(view, circuit);
  return circuit.edges.filter((edge) => edge.enters <= size);
}

/** The nodes at which some edges begin and end. */
export function nodesOf(edges) {
  return new Set([...edges].flatMap(({ from, to }) => [from, to]));
}

/** The place of the checkpoint of `other` that has seen as many tokens as that of `model` at `at`. */
export function sameMoment(model, other, at) {
  const apart = other.tokens.map((tokens) => Math.abs(tokens - model.tokens[at]));
  return apart.indexOf(Math.min(...apart));
}

/** The classes of a node, as numbers. */
export function rolesOf({ data, state }, node) {
  return data.roles?.[state.model]?.[state.at]?.[node] ?? [];
}

/** The numbers that were measured of a node, in the order of data.columns; undefined if there are
 *  none. */
export function notesOf({ data, state }, node) {
  return data.notes?.[state.model][state.at][node];
}

/** The largest score at any checkpoint of the model and task, so that widths can be compared. */
export function largestScore(view) {
  const entries = view.data.circuits[view.state.model]?.[view.state.task] ?? [];
  if (!view.largest.has(entries)) {
    const scores = entries.flatMap((entry) => entry?.scores ?? []);
    view.largest.set(entries, Math.max(1e-30, ...scores.map(Math.abs)));
  }
  return view.largest.get(entries);
}

/** "4.19M tokens (step 1000)" */
export function momentOf(view, at = view.state.at) {
  const { steps, tokens } = modelOf(view);
  return `${shortNumber(tokens[at])} tokens (step ${steps[at]})`;
}
