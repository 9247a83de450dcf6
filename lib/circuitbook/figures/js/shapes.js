// Outlines of nodes: classes of heads differ without their colours, too.

import { svg } from "./dom.js";

/** A polygon of n corners at radius r; `inner`: radius of every other corner, which makes a star.
 *  */
function polygon(n, r, turn = 0, inner = r) {
  const corners = Array.from({ length: n }, (_, i) => {
    const angle = turn + (2 * Math.PI * i) / n - Math.PI / 2;
    const radius = i % 2 ? inner : r;
    return `${(radius * Math.cos(angle)).toFixed(1)} ${(radius * Math.sin(angle)).toFixed(1)}`;
  });
  return `M${corners.join("L")}Z`;
}

export function circle(r) {
  return `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`;
}

/** w and h are half of its width and height. */
export function box(w, h) {
  return `M${-w} ${-h}H${w}V${h}H${-w}Z`;
}

const TRIANGLE = polygon(3, 29);
const CROSS = "M-8 -21H8V-8H21V8H8V21H-8V8H-21V-8H-8Z";
const CLASS_SHAPES = [
  polygon(4, 24),
  polygon(6, 21),
  TRIANGLE,
  polygon(10, 26, 0, 15),
  polygon(5, 22),
  polygon(8, 21, Math.PI / 8),
  CROSS,
];

export function classShape(index) {
  return CLASS_SHAPES[index % CLASS_SHAPES.length];
}

/** How far below a node's middle its text stands: a triangle is wide enough only there. */
export function textOffset(shape) {
  return shape === TRIANGLE ? 8 : 4;
}

/** pale("#0072b2") -> "rgb(115,178,213)": dark text can be read on it */
export function pale(colour) {
  const channels = [1, 3, 5].map((at) => Number.parseInt(colour.slice(at, at + 2), 16));
  return `rgb(${channels.map((value) => Math.round(255 - 0.55 * (255 - value)))})`;
}

/** A piece of an edge, for lists and the legend. */
export function edgeSample(colour, negative, dashes = negative ? "6 4" : null) {
  return svg(
    "svg",
    { viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true" },
    svg("path", { d: "M0 6H26", stroke: colour, "stroke-width": 3, "stroke-dasharray": dashes }),
  );
}
