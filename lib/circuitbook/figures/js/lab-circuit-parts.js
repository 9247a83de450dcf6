// The parts of the lab's circuit: menus, buttons, and the places for what is drawn and written.

import { button, html, menu } from "./dom.js";
import { labelled } from "./lab-controls.js";

export const BASES = { found: "Found", nothing: "Nothing", everything: "Everything" };

/** {section, ...}: the section, and the parts of it that change. */
export function buildCircuit(place, { tasks }) {
  const id = (name) => `${place.id}-${name}`;
  const parts = {
    task: menu("task", { "": "none", ...tasks }),
    undo: button("lb-button", "undo", "Undo changes"),
    size: html("input", { type: "range", min: 1, step: 1, name: "size", id: id("size") }),
    sizeText: html("output", { for: id("size") }),
    status: html("p", { class: "lb-circuit-status", role: "status" }),
    canvas: html("div", { class: "cx-drawing" }),
    panel: html("div", { class: "lb-panel" }),
    node: menu("circuit-node", {}),
    writes: html("div", { class: "lb-writes" }),
    list: html("div", {
      class: "cx-list lb-boxes",
      tabindex: 0,
      role: "group",
      "aria-label": "edges, with a box for each: whether it is in the circuit",
    }),
    legend: html("ul", { class: "cx-legend", "aria-label": "legend" }),
    picking: button("lb-button", "picking", "Select several"),
    picked: html("span", { class: "lb-picked", role: "status" }),
    groupName: html("input", { type: "text", name: "group", id: id("group"), autocomplete: "off" }),
    makeGroup: button("lb-button", "make-group", "Make a group"),
    readyMade: menu("classes", {}),
    groups: html("ul", { class: "lb-groups", "aria-label": "groups" }),
    download: button("lb-button", "download", "Download as JSON"),
  };
  parts.readyMadeLabel = labelled("or a class of heads", parts.readyMade);
  parts.bases = Object.fromEntries(
    Object.entries(BASES).map(([base, text]) => [base, button("lb-button", base, text)]),
  );
  return { ...parts, section: circuitSection(parts) };
}

function circuitSection(parts) {
  const start = { class: "lb-choice", role: "group", "aria-label": "start from" };
  return html(
    "section",
    { class: "lb-part lb-circuit cx" },
    html("h2", {}, "The circuit"),
    html(
      "p",
      { class: "lb-help" },
      "What the search found for a task, on many prompts. Click a node to see what it does here and " +
        "to take its edges out or put others in; click an edge to take it out. How much of the answer " +
        "is left on your two sentences follows.",
    ),
    html(
      "div",
      { class: "lb-controls" },
      labelled("task", parts.task),
      html("div", start, "start from", ...Object.values(parts.bases)),
      parts.undo,
    ),
    html(
      "div",
      { class: "lb-line lb-size" },
      html("label", { for: parts.size.id }, "edges"),
      parts.size,
      parts.sizeText,
    ),
    parts.status,
    html(
      "div",
      { class: "cx-both" },
      parts.canvas,
      html("div", { class: "cx-side" }, parts.panel, parts.list),
    ),
    parts.legend,
    html(
      "div",
      { class: "lb-controls lb-grouping" },
      parts.picking,
      parts.picked,
      labelled("name of the group", parts.groupName),
      parts.makeGroup,
      parts.readyMadeLabel,
    ),
    parts.groups,
    html(
      "p",
      { class: "lb-file" },
      parts.download,
      " In Python: ",
      html("code", {}, "from circuitbook.circuits.circuit import Circuit; Circuit.load(file)"),
    ),
  );
}
