// What the lab says about the circuit, and how well it does on this pair of sentences.

import { compared } from "./building.js";
import { entryAt, nodesOf } from "./circuit-data.js";
import { nodeLabel } from "./graph.js";
import { count, percent } from "./words.js";

const NAMED = 4; // nodes that carry nothing, at most

/** kept: {now, found}, faithfulness on this pair; null while it is not known; or {why: there is none}. */
export function circuitStatus(view, built, kept) {
  const { now, found, circuit } = built;
  if (!now.size && !circuit) return `${noCircuit(view)} Put edges in to build one.`;
  const same = now.size === found.size && compared(now, found).shared === now.size;
  const own = `${count(now.size, "edge")}, ${count(nodesOf(edgesOf(built, now)).size, "node")}`;
  const on = kept?.why ? ` ${kept.why}` : "";
  const dead = deadText(built);
  if (same) {
    return `${own}, as the search found them${faithfulness(kept)}.${on}${dead}`;
  }
  const yours = `Yours: ${own}${faithfulness(kept)}.`;
  if (!circuit) return `${yours} ${noCircuit(view)}${on}${dead}`;
  const { shared, jaccard } = compared(now, found);
  return (
    `${yours} The one found: ${count(found.size, "edge")}${kept && !kept.why ? `, ${percent(kept.found)}` : ""}. ` +
    `Shared: ${count(shared, "edge")}, Jaccard ${jaccard.toFixed(2)}.${on}${dead}`
  );
}

function noCircuit(view) {
  if (!view.state.task) return "No task is chosen, so there is no circuit to start from.";
  const why = entryAt(view)?.why;
  return `No circuit was found here: ${why ?? "it was not looked for"}.`;
}

function faithfulness(kept) {
  return !kept || kept.why ? "" : `, faithfulness on this pair ${percent(kept.now)}`;
}

function edgesOf({ all }, ids) {
  return [...ids].map((id) => all.get(id));
}

/** Edges and nodes on no path from input to logits. */
function deadText(built) {
  const { now, live } = built;
  if (now.size === live.size) return "";
  const alive = nodesOf(edgesOf(built, live));
  const nodes = [...nodesOf(edgesOf(built, now))].filter((node) => !alive.has(node));
  const named = nodes.slice(0, NAMED).map(nodeLabel).join(", ");
  const more = nodes.length > NAMED ? ` and ${nodes.length - NAMED} more` : "";
  const nor = nodes.length ? `; nor ${nodes.length > 1 ? "do" : "does"} ${named}${more}` : "";
  const dead = now.size - live.size;
  const [lie, carry] = dead === 1 ? ["lies", "carries"] : ["lie", "carry"];
  const edges = count(dead, "edge");
  return ` ${edges} ${lie} on no path from input to logits and ${carry} nothing${nor}.`;
}

/** What stands in the drawing where no edge does. */
export function emptyMessage(view, { circuit, now }) {
  if (now.size) return [];
  if (view.building.base !== "found") return ["Click a node, and put edges in."];
  if (circuit) return ["All edges are taken out."];
  const why = entryAt(view)?.why;
  return view.state.task ? ["No circuit:", why ?? "not measured"] : ["No task is chosen."];
}
