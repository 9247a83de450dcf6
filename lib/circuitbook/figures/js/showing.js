// One look at everything: all parts of the explorer as the state wants them.

import { addressWith } from "./address.js";
import { circuitAt, edgesShown, entryAt, modelOf, momentOf, sizeShown } from "./circuit-data.js";
import { compare, modelsLike } from "./comparing.js";
import { drawCurve } from "./curve.js";
import { describe } from "./description.js";
import { html } from "./dom.js";
import { drawEdges, drawMessage, drawModel, drawNodes } from "./drawing.js";
import { drawList } from "./edge-list.js";
import { drawLegend } from "./legend.js";
import { count } from "./words.js";

export function show(view) {
  if (view.drawing?.model !== view.state.model) {
    view.drawing = drawModel(view);
    showChoices(view);
  }
  const circuit = circuitAt(view);
  const shown = circuit ? edgesShown(view, circuit) : [];
  const compared = compare(view, circuit, shown);
  drawEdges(view, compared?.edges ?? shown, compared?.other);
  drawNodes(view, compared?.edges ?? shown, compared);
  drawLegend(view, compared);
  drawMessage(view, messageFor(view, circuit, shown));
  showTraining(view, circuit);
  showSize(view, circuit, shown);
  drawCurve(view, circuit);
  showComparison(view, compared);
  drawList(view, shown, compared);
  view.parts.status.textContent = describe(view, circuit, shown, compared);
  if (!view.compact) view.parts.link.href = addressWith(view.name, stateForAddress(view));
  showLab(view);
}

/** The way into the lab, if it has this model at this checkpoint. */
function showLab(view) {
  const { lab, parts } = view;
  const { edges: size, ...more } = stateForAddress(view);
  const there = lab?.models[more.model]?.includes(more.step);
  parts.inLab.hidden = !there;
  if (!there) return;
  parts.inLab.href = lab.page + addressWith("lab", { ...more, ...(size ? { size } : {}) }, "");
}

/** The state as it stands in an address: only what is not as usual. */
export function stateForAddress(view) {
  const { model, task, at, size, node, against } = view.state;
  const kept = { model, task, step: modelOf(view).steps[at] };
  if (size !== null) kept.edges = size;
  if (node !== null) kept.node = node;
  if (against !== null) {
    kept.against = typeof against === "number" ? modelOf(view).steps[against] : against;
  }
  return kept;
}

function messageFor(view, circuit, shown) {
  if (!circuit && view.compact) return ["Can't do it yet"];
  if (!circuit) return ["No circuit:", entryAt(view)?.why ?? "not measured"];
  if (shown.length) return [];
  const edges = count(sizeShown(view, circuit), "edge");
  return [`None of the first ${edges} lies on a path from input to logits.`];
}

/** What this model can be compared with. */
function showChoices(view) {
  const { parts, state } = view;
  const choices = [["", "nothing"]];
  if (modelOf(view).steps.length > 1) choices.push([state.model, "another checkpoint"]);
  for (const name of modelsLike(view)) choices.push([name, `${name}, after as many tokens`]);
  parts.against.replaceChildren(...choices.map(([value, text]) => html("option", { value }, text)));
  parts.againstLabel.hidden = choices.length < 2;
}

function showComparison(view, compared) {
  const { parts, state } = view;
  const own = typeof state.against === "number";
  parts.against.value = own ? state.model : (state.against ?? "");
  parts.sinceLine.hidden = !own;
  view.place.firstChild.classList.toggle("cx-comparing", state.against !== null);
  if (!own) return;
  const moment = momentOf(view, state.against);
  parts.since.max = modelOf(view).steps.length - 1;
  parts.since.value = state.against;
  parts.since.setAttribute("aria-valuetext", moment + (compared ? "" : ", nothing to compare"));
  parts.sinceMoment.textContent = moment;
}

function showTraining(view, circuit) {
  const { state, data, parts } = view;
  const last = modelOf(view).steps.length - 1;
  const moment = momentOf(view);
  parts.model.value = state.model;
  parts.task.value = state.task;
  parts.training.max = last;
  parts.training.value = state.at;
  parts.training.disabled = last < 1;
  parts.play.disabled = last < 1;
  parts.training.setAttribute("aria-valuetext", moment + (circuit ? "" : ", no circuit"));
  parts.moment.textContent = moment;
  const marks = data.circuits[state.model][state.task].map((entry) =>
    html("i", { class: entry && !entry.why ? "on" : null }),
  );
  parts.track.replaceChildren(...marks);
}

function showSize(view, circuit, shown) {
  const { state, parts } = view;
  const text = circuit ? sizeText(view, circuit, shown) : "no circuit";
  parts.size.disabled = !circuit;
  parts.size.min = 1;
  parts.size.max = circuit ? circuit.end : 1;
  parts.size.value = circuit ? sizeShown(view, circuit) : 1;
  parts.size.setAttribute("aria-valuetext", text);
  parts.edgeCount.textContent = text;
  parts.own.disabled = !circuit || state.size === null;
}

function sizeText(view, circuit, shown) {
  const size = sizeShown(view, circuit);
  const first = shown.length < size ? ` (first ${size})` : "";
  const own = view.state.size === null ? ", the circuit's own size" : "";
  return count(shown.length, "edge") + first + own;
}
