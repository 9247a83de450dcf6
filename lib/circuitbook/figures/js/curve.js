// Faithfulness over size, below the slider of sizes.

import { sizeShown } from "./circuit-data.js";
import { svg } from "./dom.js";
import { clamp, percent } from "./words.js";

export function drawCurve(view, circuit) {
  const { curve, curveLabel } = view.parts;
  curve.style.visibility = circuit ? "visible" : "hidden";
  curveLabel.textContent = circuit
    ? `faithfulness, own prompts; dashes: ${percent(circuit.threshold)}`
    : "";
  if (!circuit) return;
  const x = (size) => (100 * (size - 1)) / Math.max(1, circuit.end - 1);
  const y = (kept) => 28 - 24 * clamp(kept, 0, 1.1);
  const points = circuit.curve
    .filter(([edges]) => edges <= circuit.edges.length)
    .map(([edges, kept]) => [edges ? circuit.edges[edges - 1].enters : 1, kept])
    .map(([size, kept]) => `${x(size).toFixed(2)} ${y(kept).toFixed(2)}`);
  curve.replaceChildren(
    svg("path", { class: "bar", d: `M0 ${y(circuit.threshold)}H100` }),
    svg("path", { class: "at", d: `M${x(sizeShown(view, circuit))} 0V30` }),
    svg("path", { d: points.length ? `M${points.join("L")}` : "M0 0" }),
  );
}
