// The sentences above the drawing.

import {
  circuitAt,
  edgesShown,
  entryAt,
  modelOf,
  momentOf,
  nodesOf,
  sizeShown,
} from "./circuit-data.js";
import { otherView } from "./comparing.js";
import { capitalised, count, percent, twoDigits } from "./words.js";

const NUMBERS =
  "Each model numbers its heads in its own way, so the same circuit may be there under other " +
  "numbers; the chapter on the algorithm looks for it.";

/** compared: see `compare`; null if nothing is. */
export function describe(view, circuit, shown, compared = null) {
  const { state, data, compact } = view;
  const task = data.tasks[state.task];
  if (compact) return describeBriefly(state.model, task, circuit, shown);
  const where = `${state.model}, ${task}, after ${momentOf(view)}: `;
  if (!circuit) return where + whyNone(entryAt(view));
  const other = otherView(view);
  return [
    where + whichCircuit(view, circuit, shown),
    ownSize(view, circuit),
    other ? beside(view, other, compared) : sinceTheCheckpointBefore(view, shown),
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
  const nodes = count(nodesOf(shown).size, "node");
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

/** What is gained, lost and kept beside the circuit of the other view. */
function beside(view, other, compared) {
  const sameModel = other.state.model === view.state.model;
  const name = sameModel ? `step ${modelOf(other).steps[other.state.at]}` : other.state.model;
  if (!compared) {
    const place = sameModel ? `at ${name}` : `in ${name}`;
    return ` There is nothing to compare with ${place}: ${whyNone(entryAt(other))}`;
  }
  const { gained, lost, kept } = compared.counts;
  const jaccard = `Jaccard ${twoDigits(compared.jaccard)}`;
  const nodes = nodesInWords(compared);
  if (compared.earlier) {
    const changes = `${count(gained, "edge")} gained, ${lost} lost, ${kept} kept`;
    return ` Since ${name}: ${changes}; ${jaccard}${nodes}.`;
  }
  const changes = `${count(kept, "edge")} in both, ${gained} only here, ${lost} only there`;
  const where = sameModel ? `${name}, which is later` : `${name} after ${momentOf(other)}`;
  const numbers = sameModel ? "" : ` ${NUMBERS}`;
  return ` Beside ${where}: ${changes}; ${jaccard}${nodes}.${numbers}`;
}

function nodesInWords({ came, went, words }) {
  return `; ${count(came.size, "node")} ${words.gained}, ${went.size} ${words.lost}`;
}
