// Pointer and keys on the drawing: a click or Enter selects a node, arrow keys move between those
// in the circuit. Where circuits are built, a click on an edge changes it, and Shift, Ctrl or the key
// g picks nodes for a group: view.building has changeEdge(name), pick(node), picking.

const DIRECTIONS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

export function listenToDrawing(view) {
  const { canvas } = view.parts;
  canvas.addEventListener("click", (event) => clicked(view, event));
  canvas.addEventListener("keydown", (event) => keyPressed(view, event));
}

function clicked(view, event) {
  const group = event.target.closest(".node");
  const hit = event.target.closest(".hit");
  if (group && view.drawing.reached.includes(group.dataset.node)) {
    view.drawing.stop = group.dataset.node;
    chosen(view, group.dataset.node, event);
    view.drawing.nodes.get(group.dataset.node)?.group.focus();
  } else if (hit) view.building?.changeEdge(hit.parentElement.dataset.edge);
  else if (view.state.node !== null) view.select(null);
}

function chosen({ building, select }, node, { shiftKey, ctrlKey, metaKey }) {
  if (building && (building.picking || shiftKey || ctrlKey || metaKey)) building.pick(node);
  else select(node);
}

function keyPressed(view, event) {
  const node = event.target.closest(".node")?.dataset.node;
  if (!view.drawing.nodes.has(node)) return;
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    chosen(view, node, event);
  } else if (event.key === "g" && view.building) {
    view.building.pick(node);
  } else if (event.key in DIRECTIONS) {
    event.preventDefault();
    const next = neighbour(view.drawing, node, DIRECTIONS[event.key]);
    if (next) focusOn(view.drawing, next);
  }
}

/** The nearest node of the circuit in a direction, [to the right, up]: rows count first. */
function neighbour({ nodes, reached }, node, [right, up]) {
  const from = nodes.get(node);
  const distances = reached
    .map((name) => ({ name, x: nodes.get(name).x - from.x, row: nodes.get(name).row - from.row }))
    .filter(({ x, row }) => (right ? row === 0 && x * right > 0 : row * up > 0))
    .sort((a, b) => Math.abs(a.row) - Math.abs(b.row) || Math.abs(a.x) - Math.abs(b.x));
  return distances[0]?.name;
}

function focusOn(drawing, next) {
  drawing.stop = next;
  for (const node of drawing.reached) {
    drawing.nodes.get(node).group.setAttribute("tabindex", node === next ? 0 : -1);
  }
  drawing.nodes.get(next).group.focus();
}
