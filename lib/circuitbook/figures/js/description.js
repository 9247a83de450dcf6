// The sentences above the drawing.

import { circuitAt, edgesShown, entryAt, momentOf, sizeShown } from "./circuit-data.js";
import { capitalised, count, percent } from "./words.js";

export function describe(view, circuit, shown) {
  const { state, data, compact } = view;
  const task = data.tasks[state.task];
  if (compact) return describeBriefly(state.model, task, circuit, shown);
  const where = `${state.model}, ${task}, after ${momentOf(view)}: `;
  if (!circuit) return where + whyNone(entryAt(view));
  return [
    where + whichCircuit(view, circuit, shown),
    ownSize(view, circuit),
    sinceTheCheckpointBefore(view, shown),
  ].join("");
}

function describeBriefly(model, task, circuit, shown) {
  if (!circuit) return `${model} does not do ${task} yet.`;
  const edges = count(shown.length, "edge");
  return `${edges} of ${model} keep ${percent(circuit.threshold)} of what it does in ${task}.`;
}

function whyNone(entry) {
  return entry?.why ? `no circuit. ${capitalised(entry.why)}.` : "not measured.";
}

function whichCircuit(view, circuit, shown) {
  const size = sizeShown(view, circuit);
  const nodes = count(view.drawing.inside.size, "node");
  const kept = faithfulness(circuit, shown.length);
  if (size === circuit.size) {
    const edges = count(shown.length, "edge");
    const threshold = percent(circuit.threshold);
    return `the smallest circuit that keeps ${threshold} has ${edges} and ${nodes}, ${kept}.`;
  }
  const alive =
    shown.length < size ? `, of which ${shown.length} lie on a path from input to logits` : "";
  return `the first ${count(size, "edge")} of the search${alive}, ${nodes}, ${kept}.`;
}

function ownSize(view, circuit) {
  const other =
    sizeShown(view, circuit) === circuit.size ? "" : ` The circuit's own size is ${circuit.size}.`;
  const cut = circuit.size > circuit.end ? ` This view holds its first ${circuit.end}.` : "";
  return other + cut;
}

function faithfulness(circuit, edges) {
  const exact = circuit.curve.find((row) => row[0] === edges);
  if (exact) {
    const [, kept, low, high] = exact;
    const interval = low === null ? "" : ` [${percent(low)}, ${percent(high)}]`;
    return `faithfulness ${percent(kept)}${interval}`;
  }
  const none = "faithfulness was not measured at this size";
  const below = circuit.curve.filter((row) => row[0] < edges).at(-1);
  const above = circuit.curve.find((row) => row[0] > edges);
  if (!below || !above) return none;
  const smaller = `${percent(below[1])} with ${below[0]} edges`;
  return `${none}; it is ${smaller} and ${percent(above[1])} with ${above[0]}`;
}

function sinceTheCheckpointBefore(view, shown) {
  const before = view.state.at > 0 ? circuitAt(view, view.state.at - 1) : null;
  if (!before) return "";
  const old = new Set(edgesShown(view, before).map((edge) => edge.id));
  const kept = shown.filter((edge) => old.has(edge.id)).length;
  if (kept === shown.length && kept === old.size) {
    return " The same edges as at the checkpoint before.";
  }
  const came = count(shown.length - kept, "edge");
  return ` Since the checkpoint before, ${came} came and ${old.size - kept} went.`;
}
