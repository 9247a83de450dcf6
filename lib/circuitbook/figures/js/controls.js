// The parts of the explorer: its menus, sliders and buttons, and the places for all that is drawn
// and written.

import { button, html, menu, svg } from "./dom.js";

/** Fills the place with the parts, and gives those that change. */
export function buildControls(place, { data, compact }) {
  const models = Object.keys(data.models);
  const parts = {
    model: menu("model", Object.fromEntries(models.map((name) => [name, name]))),
    task: menu("task", data.tasks),
    against: menu("against", {}),
    training: slider(place, "training", "checkpoint"),
    since: slider(place, "since", "checkpoint to compare with"),
    size: slider(place, "edges", "number of edges"),
    play: button("cx-button", "play", "Play"),
    own: button("cx-button", "own", "Own size"),
    track: html("div", { class: "cx-track", "aria-hidden": "true" }),
    curve: svg("svg", {
      class: "cx-curve",
      viewBox: "0 0 100 30",
      preserveAspectRatio: "none",
      style: "width: 100%; height: 2rem",
      "aria-hidden": "true",
    }),
    curveLabel: html("span", { class: "cx-small", "aria-hidden": "true" }),
    status: html("p", { class: "cx-status", role: "status" }),
    list: html("div", {
      class: "cx-list",
      tabindex: 0,
      role: "group",
      "aria-label": "edges and their scores",
    }),
    canvas: html("div", { class: "cx-drawing" }),
    legend: html("ul", { class: "cx-legend", "aria-label": "legend" }),
    link: html("a", { href: compact || "#" }, compact ? "Take it apart" : "Link to this view"),
    inLab: html("a", { class: "cx-lab" }, "Open in the lab"),
  };
  parts.moment = html("output", { for: parts.training.id });
  parts.sinceMoment = html("output", { for: parts.since.id });
  parts.edgeCount = html("output", { for: parts.size.id });
  place.replaceChildren(arranged(parts, data, compact));
  return parts;
}

function slider(place, name, title) {
  const id = `${place.id}-${name}`;
  return html("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 1,
    name,
    id,
    autocomplete: "off",
    title,
  });
}

function arranged(parts, data, compact) {
  const model = html("label", { class: "cx-choice" }, "model", parts.model);
  const task = html("label", { class: "cx-choice" }, "task", parts.task);
  if (Object.keys(data.tasks).length < 2) {
    task.hidden = true;
    task.style.display = "none";
  }
  parts.againstLabel = html("label", { class: "cx-choice" }, "compare with", parts.against);
  const training = html(
    "div",
    { class: "cx-line" },
    html("label", { for: parts.training.id }, "training"),
    parts.training,
    parts.play,
    parts.track,
    html("span"),
    parts.moment,
  );
  parts.sinceLine = html(
    "div",
    { class: "cx-line" },
    html("label", { for: parts.since.id }, "beside"),
    parts.since,
    html("span"),
    parts.sinceMoment,
  );
  const sizes = html(
    "div",
    { class: "cx-line cx-sizes" },
    html("label", { for: parts.size.id }, "edges"),
    parts.size,
    parts.own,
    parts.curve,
    parts.curveLabel,
    parts.edgeCount,
  );
  return html(
    "div",
    { class: compact ? "cx cx-compact" : "cx" },
    html(
      "div",
      { class: "cx-controls" },
      model,
      task,
      parts.againstLabel,
      training,
      parts.sinceLine,
      sizes,
    ),
    parts.status,
    html("div", { class: "cx-both" }, parts.canvas, html("div", { class: "cx-side" }, parts.list)),
    parts.legend,
    html("div", { class: "cx-link" }, parts.link, " ", parts.inLab),
  );
}
