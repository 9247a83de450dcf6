// Groups of heads and MLPs that the reader makes, drawn as one: [{name, nodes, open}]. A node is in one
// group at most. In lists and drawings "@name" stands for a group.

import { sourceNode, sourceNumber } from "./graph.js";
import { count } from "./words.js";

const NAME_END = 24; // letters

/** The nodes that are meant: a group's, or the node itself. */
export function membersOf(groups, node) {
  if (node?.[0] !== "@") return [node];
  return groups.find(({ name }) => name === node.slice(1))?.nodes ?? [];
}

/** The groups with one more, or with one of this name changed; others lose its nodes. */
export function withGroup(groups, wished, nodes) {
  const name = cleanName(wished) || freeName(groups);
  const others = groups
    .filter((group) => group.name !== name)
    .map((group) => ({ ...group, nodes: group.nodes.filter((node) => !nodes.includes(node)) }))
    .filter((group) => group.nodes.length);
  return [...others, { name, nodes, open: false }];
}

/** Without what an address or a label cannot have. */
function cleanName(text) {
  return text
    .replace(/[^\p{L}\p{N} .-]/gu, "")
    .trim()
    .slice(0, NAME_END);
}

function freeName(groups) {
  let n = 1;
  while (groups.some(({ name }) => name === `group ${n}`)) n += 1;
  return `group ${n}`;
}

/** Groups as they are drawn: those that are not open. */
export function boxesOf(groups) {
  return groups
    .filter(({ open }) => !open)
    .map(({ name, nodes }) => ({ node: `@${name}`, members: nodes }));
}

/** Edges between what is drawn: those from or to a group's members are one for each pair of ends and
 *  input, with the sum of their scores; those inside a group are left out. */
export function bundled(edges, boxes) {
  const boxOf = new Map(boxes.flatMap(({ node, members }) => members.map((name) => [name, node])));
  const bundles = new Map();
  for (const edge of edges) {
    const [from, to] = [edge.from, edge.to].map((node) => boxOf.get(node) ?? node);
    if (from === to) continue;
    const alone = from === edge.from && to === edge.to;
    const name = alone ? edge.name : `${from}->${to}${edge.kind && `<${edge.kind}>`}`;
    const key = `${name} ${edge.flag ?? ""}`;
    if (alone) bundles.set(key, edge);
    else bundles.set(key, joined(bundles.get(key), { ...edge, id: key, from, to, name }));
  }
  return [...bundles.values()];
}

function joined(bundle, edge) {
  if (!bundle) return { ...edge, n: 1 };
  return { ...bundle, n: bundle.n + 1, score: (bundle.score ?? 0) + (edge.score ?? 0) };
}

/** groupText({name: "movers", nodes: ["a2.h1", "m2"]}) -> "movers (2 nodes)" */
export function groupText({ name, nodes }) {
  return `${name} (${count(nodes.length, "node")})`;
}

/** As an address has them: "movers_12.15*others_3.4_o"; nodes by their numbers, o: open. */
export function groupsToText(groups, { heads }) {
  return groups
    .map(({ name, nodes, open }) =>
      [name, nodes.map((node) => sourceNumber(node, heads)).join("."), ...(open ? ["o"] : [])].join(
        "_",
      ),
    )
    .join("*");
}

/** What cannot be is left out. */
export function groupsFromText(text, { layers, heads }) {
  return text.split("*").reduce((groups, part) => {
    const [name, numbers = "", open] = part.split("_");
    const nodes = numbers
      .split(".")
      .filter((number) => /^\d+$/.test(number) && number > 0 && number <= layers * (heads + 1))
      .map((number) => sourceNode(Number(number), heads));
    if (!nodes.length) return groups;
    const more = withGroup(groups, name, [...new Set(nodes)]);
    return open === "o" ? [...more.slice(0, -1), { ...more.at(-1), open: true }] : more;
  }, []);
}
