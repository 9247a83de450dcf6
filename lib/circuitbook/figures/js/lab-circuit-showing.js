// Draws the lab's circuit, and says how it does.

import { builtCircuit } from "./building.js";
import { sizeShown } from "./circuit-data.js";
import { html } from "./dom.js";
import { drawEdges, drawMessage, drawModel, drawNodes } from "./drawing.js";
import { isHead, nodeLabel, spokenName } from "./graph.js";
import { drawEdgeLists, drawGroups } from "./lab-circuit-list.js";
import { circuitStatus, emptyMessage } from "./lab-circuit-sentences.js";
import { boxesOf, bundled, membersOf } from "./lab-groups.js";
import { seenNow } from "./lab-state.js";
import { HOWS, patternOf } from "./lab-tiles.js";
import { fillSwitches } from "./lab-writes.js";
import { drawLegend } from "./legend.js";
import { measure } from "./measures.js";
import { capitalised, percent } from "./words.js";

const LOOKED_AT = 3; // words that a head's attention is told of
const LEAST = 0.05; // of the answer's measure, between the sentences, for a faithfulness

/** Draws the circuit as the lab's state wants it, and says how it does once the engine has said. */
export function showCircuit(view) {
  const { lab, parts, building } = view;
  const { model, at, task, size, base, groups, node } = lab.state;
  const step = lab.models[model].steps[at];
  view.state = { model, task, size, node, at: view.steps[model]?.steps.indexOf(step) ?? -1 };
  building.base = base;
  building.groups = boxesOf(groups);
  view.built = builtCircuit(view, lab.state);
  const drawnFor = JSON.stringify([model, building.groups]);
  if (view.drawnFor !== drawnFor) {
    view.drawing = drawModel(view);
    drawLegend(view);
    view.drawnFor = drawnFor;
  }
  const shown = edgesToDraw(view);
  drawEdges(view, shown);
  drawNodes(view, shown);
  drawMessage(view, emptyMessage(view, view.built));
  showControls(view);
  showPanel(view);
  drawEdgeLists(view, view.built, groups);
  drawGroups(parts.groups, groups, view.building.act);
  lab.showShare();
  showFaithfulness(view);
}

/** The circuit's edges, and those of its start that were taken out; in bundles where groups are. */
function edgesToDraw({ built: { all, start, now, live }, building }) {
  const flagOf = (id) => {
    if (!now.has(id)) return "gone";
    return live.has(id) ? undefined : "idle";
  };
  const ids = [...new Set([...now, ...start])];
  const edges = ids.map((id) => ({ ...all.get(id), flag: flagOf(id) }));
  const order = (edge) => (edge.flag === "gone" ? -2 : Math.abs(edge.score ?? -1));
  return bundled(edges, building.groups).sort((a, b) => order(b) - order(a));
}

function showControls(view) {
  const { parts, building, built, lab } = view;
  const { base, added, removed, task } = lab.state;
  parts.task.value = task;
  for (const [name, made] of Object.entries(parts.bases)) {
    made.setAttribute("aria-pressed", name === base);
  }
  parts.undo.disabled = added.size + removed.size === 0;
  const sized = base === "found" && built.circuit;
  parts.size.disabled = !sized;
  parts.size.max = sized ? built.circuit.end : 1;
  parts.size.value = sized ? sizeShown(view, built.circuit) : 1;
  const first = `the search's first ${sized ? sizeShown(view, built.circuit) : 0}`;
  parts.sizeText.textContent = sized && view.state.size !== null ? first : "";
  if (sized && view.state.size === null) parts.sizeText.textContent = "the circuit's own size";
  parts.picking.setAttribute("aria-pressed", building.picking);
  const names = [...building.picked].map(nodeLabel).join(", ");
  const hint = building.picking ? "Click nodes, or press g on them." : "";
  parts.picked.textContent = names || hint;
  parts.makeGroup.disabled = !building.picked.size;
  const ready = [...classesHere(view).entries()];
  parts.readyMade.replaceChildren(
    new Option("choose", ""),
    ...ready.map(([name, nodes]) => new Option(`${name} (${nodes.map(nodeLabel)})`, name)),
  );
  parts.readyMadeLabel.hidden = !ready.length;
}

/** What the selected node looks at and writes, in short, and its switch. */
function showPanel(view) {
  const { parts, lab } = view;
  const { node, groups } = lab.state;
  const focused = document.activeElement === parts.node;
  if (node === null) {
    parts.panel.replaceChildren(html("p", {}, "Click a node to see what it does."));
    return;
  }
  const shown = [html("h3", {}, capitalised(spokenName(node)))];
  if (node !== "input" && node !== "logits") {
    fillSwitches(parts.node, lab, node, HOWS);
    parts.node.setAttribute("aria-label", `${spokenName(node)} is`);
    shown.push(html("label", { class: "lb-choice" }, "is", parts.node));
  }
  const seen = seenNow(lab);
  if (seen) {
    const heads = membersOf(groups, node).filter(isHead);
    shown.push(...heads.map((head) => html("p", {}, lookedAt(seen, head, heads.length > 1))));
  }
  parts.panel.replaceChildren(...shown, parts.writes);
  if (node === "logits") parts.writes.replaceChildren();
  if (focused) parts.node.focus({ preventScroll: true });
}

function lookedAt({ shown, read }, head, named) {
  const { tokens } = read;
  const last = [...patternOf(head, shown).slice(-tokens.length)];
  const most = last
    .map((share, i) => ({ share, word: wordAt(tokens, i) }))
    .sort((a, b) => b.share - a.share)
    .slice(0, LOOKED_AT);
  const words = most.map(({ share, word }) => `${word} ${percent(share)}`).join(", ");
  return `${named ? `${nodeLabel(head)} looks` : "Looks"} from the last word at ${words}.`;
}

/** The word at a place; of several that are alike, which: "John (2nd)". */
function wordAt(tokens, place) {
  const { text } = tokens[place];
  const alike = tokens.flatMap((token, i) => (token.text === text ? [i] : []));
  if (alike.length < 2) return text.trim();
  return `${text.trim()} (${["1st", "2nd", "3rd"][alike.indexOf(place)] ?? "later"})`;
}

// ------------------------------------------------------------------ how it does

async function showFaithfulness(view) {
  view.turn += 1;
  view.kept = null; // until it is known: a file has no older numbers
  const { turn, built, lab } = view;
  const seen = seenNow(lab);
  if (!seen) return;
  const kept = await faithfulnessOf(view, seen);
  if (turn !== view.turn) return;
  Object.assign(view, { kept, answers: seen.read.answers });
  view.parts.status.textContent = circuitStatus(view, built, kept);
  view.parts.section.dataset.turn = turn;
}

/** {now, found, clean, corrupted}: faithfulness on this pair, and the measure of both sentences; {why}
 *  if there is none. */
async function faithfulnessOf({ built, lab }, seen) {
  const { read, own, second } = seen;
  if (!read.answers.right.length) return { why: "Faithfulness needs an answer." };
  if (!read.pair) return { why: "Faithfulness needs two sentences of as many words." };
  const [clean, corrupted] = [own, second].map((run) => measure(run.logits, read.answers));
  if (Math.abs(clean - corrupted) < LEAST) {
    return { why: "The model answers both sentences alike, so faithfulness says nothing." };
  }
  const share = async (ids) => {
    const value = measure(await lab.ask(circuitMessage(lab, seen, ids)), read.answers);
    return (value - corrupted) / (clean - corrupted);
  };
  return { now: await share(built.now), found: await share(built.found), clean, corrupted };
}

function circuitMessage({ models, state }, seen, ids) {
  const { layers, heads } = models[state.model].shape;
  const width = layers * (3 * heads + 1) + 1;
  const edges = [...ids].map((id) => [Math.floor(id / width), id % width]);
  return { ...seen.message, what: "circuit", edges };
}

/** Map of class -> its heads at this checkpoint; each counts for its first class. */
export function classesHere({ data, state, classes }) {
  const names = Object.keys(classes);
  const here = new Map();
  for (const [node, [first]] of Object.entries(data.roles?.[state.model]?.[state.at] ?? {})) {
    here.set(names[first], [...(here.get(names[first]) ?? []), node]);
  }
  return here;
}
