// The lab's circuit: the explorer's drawing of what the search found for the model, checkpoint and
// task, which the reader changes while faithfulness on the two sentences follows.

import { edgeChanged } from "./building.js";
import { circuitRecord, download } from "./circuit-file.js";
import { edgeBox } from "./lab-circuit-list.js";
import { BASES, buildCircuit } from "./lab-circuit-parts.js";
import { classesHere, showCircuit } from "./lab-circuit-showing.js";
import { membersOf, withGroup } from "./lab-groups.js";
import { noChanges } from "./lab-state.js";
import { keyOf } from "./lab-weights.js";
import { listenToDrawing } from "./pointing.js";

/** The part, as a view that drawing.js draws. lab: the lab's view, whose state it shares. */
export function circuitPart(lab) {
  const { circuits, inputs, classes, does, models } = lab;
  const shapes = Object.entries(models).map(([name, { shape, ...more }]) => [
    name,
    { ...shape, ...more },
  ]);
  const view = {
    lab,
    inputs,
    classes,
    does,
    data: { ...circuits, models: Object.fromEntries(shapes) },
    steps: circuits.models,
    parts: buildCircuit(lab.place, circuits),
    state: {},
    building: { groups: [], picking: false, picked: new Set(), unfolded: new Set() },
    drawing: null,
    drawnFor: null,
    decoded: new Map(),
    largest: new Map(),
    stillness: matchMedia("(prefers-reduced-motion: reduce)"),
    turn: 0,
  };
  view.select = (node) => lab.select(node === lab.state.node ? null : node);
  Object.assign(view.building, {
    flagsOf: (node) => flagsOf(view, node),
    boxOf: (edge) => edgeBox(edge, view.built, (id) => changeEdge(view, id)),
    changeEdge: (name) => clickEdge(view, name),
    pick: (node) => pick(view, node),
    act: (name, what) => changeGroups(view, name, what),
  });
  listenToCircuit(view);
  return view;
}

function change(view, changes) {
  Object.assign(view.lab.state, changes);
  view.lab.save();
  showCircuit(view);
}

function changeEdge(view, id) {
  change(view, edgeChanged(view.built, view.lab.state, id));
}

/** An edge is changed; of a bundle, the group is selected, whose edges are listed. */
function clickEdge(view, name) {
  const edge = [...view.built.all.values()].find((one) => one.name === name);
  if (edge) changeEdge(view, edge.id);
  else {
    const ends = name.replace(/<[qkv]>$/, "").split("->");
    view.lab.select(ends.find((end) => end[0] === "@"));
  }
}

function pick(view, node) {
  const { picked } = view.building;
  for (const name of membersOf(view.lab.state.groups, node)) {
    if (name === "input" || name === "logits") continue;
    if (!picked.delete(name)) picked.add(name);
  }
  showCircuit(view);
}

function flagsOf({ lab: { state }, building }, node) {
  const nodes = membersOf(state.groups, node);
  return {
    picked: nodes.some((name) => building.picked.has(name)),
    switched: nodes.some((name) => state.switches[name]),
  };
}

// ------------------------------------------------------------------ what the reader does

function listenToCircuit(view) {
  const { parts, lab, building } = view;
  parts.task.addEventListener("change", () => {
    const kept = lab.state.base === "found" ? noChanges() : {};
    change(view, { task: parts.task.value, size: null, ...kept });
  });
  for (const base of Object.keys(BASES)) {
    parts.bases[base].addEventListener("click", () =>
      change(view, { base, size: null, ...noChanges() }),
    );
  }
  parts.undo.addEventListener("click", () => change(view, noChanges()));
  parts.size.addEventListener("input", () => change(view, { size: Number(parts.size.value) }));
  parts.node.addEventListener("change", () => lab.switchTo(lab.state.node, parts.node.value));
  parts.picking.addEventListener("click", () => {
    building.picking = !building.picking;
    showCircuit(view);
  });
  const group = (name, nodes) => {
    building.picked.clear();
    building.picking = false;
    const groups = withGroup(lab.state.groups, name, nodes);
    lab.state.groups = groups;
    lab.select(`@${groups.at(-1).name}`);
  };
  parts.makeGroup.addEventListener("click", () => {
    group(parts.groupName.value, [...building.picked]);
    parts.groupName.value = "";
  });
  parts.groupName.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && building.picked.size) parts.makeGroup.click();
  });
  parts.readyMade.addEventListener("change", () => {
    const name = parts.readyMade.value;
    if (name) group(name, classesHere(view).get(name));
  });
  parts.download.addEventListener("click", () => save(view));
  for (const place of [parts.canvas, parts.list]) {
    place.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && lab.state.node !== null) lab.select(null);
    });
  }
  listenToDrawing(view);
}

function changeGroups(view, name, what) {
  const { lab } = view;
  const { groups, node } = lab.state;
  if (what === "select") lab.select(`@${name}`);
  else if (what === "open") {
    const changed = groups.map((group) =>
      group.name === name ? { ...group, open: !group.open } : group,
    );
    change(view, { groups: changed });
  } else {
    lab.state.groups = groups.filter((group) => group.name !== name);
    lab.select(node === `@${name}` ? null : node);
  }
}

// ------------------------------------------------------------------ as a file

function save(view) {
  const { lab, built, kept } = view;
  const { model, at, task, text, other, groups } = lab.state;
  const step = lab.models[model].steps[at];
  const words = (ids) => ids.map((id) => lab.words[id]);
  const { right, wrong } = view.answers ?? { right: [], wrong: [] };
  const about = {
    suite: lab.suite,
    ...{ model, step, task, text, other, right: words(right), wrong: words(wrong) },
    groups: Object.fromEntries(groups.map(({ name, nodes }) => [name, nodes])),
  };
  const { now = null, clean = null, corrupted = null } = kept ?? {};
  const numbers = { faithfulness: now, clean, corrupted };
  const record = circuitRecord(lab.models[model].shape, built, numbers, about);
  download(record, `circuit-${keyOf(model, step)}.json`);
}
