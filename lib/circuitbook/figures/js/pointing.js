// Pointer and keys on the drawing: a click or Enter selects a node, arrow keys move between those
// in the circuit.

const DIRECTIONS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

export function listenToDrawing(view) {
  const { canvas } = view.parts;
  canvas.addEventListener("click", (event) => clicked(view, event));
  canvas.addEventListener("keydown", (event) => pressed(view, event));
}

function clicked(view, event) {
  const group = event.target.closest(".node");
  if (group && view.drawing.inside.has(group.dataset.node)) {
    view.drawing.stop = group.dataset.node;
    view.select(group.dataset.node);
    group.focus();
  } else if (view.state.node !== null && !event.target.closest(".hit")) view.select(null);
}

function pressed(view, event) {
  const node = event.target.closest(".node")?.dataset.node;
  if (!view.drawing.nodes.has(node)) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    view.select(node);
  } else if (event.key in DIRECTIONS) {
    event.preventDefault();
    const next = neighbour(view.drawing, node, DIRECTIONS[event.key]);
    if (next) focusOn(view.drawing, next);
  }
}

/** The nearest node of the circuit in a direction, [to the right, up]: rows count first. */
function neighbour({ nodes, inside }, node, [right, up]) {
  const from = nodes.get(node);
  const distances = [...inside.keys()]
    .map((name) => ({ name, x: nodes.get(name).x - from.x, row: nodes.get(name).row - from.row }))
    .filter(({ x, row }) => (right ? row === 0 && x * right > 0 : row * up > 0))
    .sort((a, b) => Math.abs(a.row) - Math.abs(b.row) || Math.abs(a.x) - Math.abs(b.x));
  return distances[0]?.name;
}

function focusOn(drawing, next) {
  drawing.stop = next;
  for (const node of drawing.inside.keys()) {
    drawing.nodes.get(node).group.setAttribute("tabindex", node === next ? 0 : -1);
  }
  drawing.nodes.get(next).group.focus();
}
