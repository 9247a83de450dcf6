// The circuit explorer. explorer.py makes its data and says what they mean; here they are drawn. No library, no request.
var CircuitExplorer = (() => {
  "use strict";

  const SLOT = 66, MARGIN = 62, PLAY_MS = 1100;
  const TYPED = {q: "queries", k: "keys", v: "values"};
  const STYLE = `
.cx { color: #1b1b1b; color-scheme: light; font-size: .92rem; line-height: 1.4; }
.cx button, .cx select { font: inherit; color: #1b1b1b; background: #fff; border: 1px solid #8a8a8a; border-radius: 4px; padding: .15rem .5rem; }
.cx button:disabled { opacity: .5; } .cx button:enabled:hover { background: #ececec; }
.cx :focus-visible { outline: 2px solid #0b57d0; outline-offset: 2px; }
.cx-controls { display: flex; flex-wrap: wrap; gap: .5rem 1.2rem; align-items: center; margin-bottom: .5rem; }
.cx-controls label { display: flex; gap: .4rem; align-items: center; }
.cx-line { display: grid; grid-template-columns: 4.5rem 1fr 5.6rem; gap: .1rem .7rem; align-items: center; width: 100%; max-width: 46rem; }
.cx-line input { width: 100%; min-width: 0; margin: 0; accent-color: #0b57d0; }
.cx-line output { grid-column: 2 / 4; font-size: .85rem; color: #444; }
.cx-curve { grid-column: 2; padding: 0 .4rem; overflow: visible; } .cx-curve path { fill: none; stroke: #333; stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.cx-curve .bar { stroke: #999; stroke-dasharray: 4 3; } .cx-curve .at { stroke: #0b57d0; stroke-width: 2; } .cx-small { font-size: .75rem; line-height: 1.2; color: #444; }
.cx-track { grid-column: 2; display: flex; gap: 1px; height: .5rem; padding: 0 .25rem; }
.cx-track i { flex: 1; background: #d9d9d9; } .cx-track i.on { background: #555; }
.cx-both { display: flex; flex-wrap: wrap; gap: .6rem 1rem; align-items: flex-start; }
.cx-drawing { flex: 1 1 22rem; min-width: 0; overflow-x: auto; }
.cx-drawing svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.cx-side { flex: 1 1 13rem; max-width: 100%; }
.cx-side h4 { font-size: .95rem; margin: .5rem 0 .2rem; color: #1b1b1b; }
.cx-list { max-height: 30rem; overflow-y: auto; scrollbar-gutter: stable; }
.cx-side ul { list-style: none; margin: 0; padding: 0; }
.cx-side li { display: grid; grid-template-columns: 1.3rem 1fr auto; gap: .4rem; align-items: center; margin: 0; padding: .06rem 0; font-variant-numeric: tabular-nums; }
.cx-side li button { border: 0; background: none; padding: .05rem .15rem; text-decoration: underline; text-underline-offset: .15em; }
.cx-side li svg { width: 1.3rem; height: .7rem; }
.cx-side dl { display: grid; grid-template-columns: 1fr auto; gap: 0 .6rem; margin: .3rem 0; font-size: .85rem; font-variant-numeric: tabular-nums; }
.cx-side dt { font-weight: normal; } .cx-side dd { margin: 0; text-align: right; }
.cx-status { margin: .5rem 0; max-width: 72ch; min-height: 4.2em; }
@media (max-width: 576px) { .cx-status { min-height: 8.4em; } }
.cx-legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .85rem; margin: .4rem 0; padding: 0; list-style: none; }
.cx-legend li { display: flex; gap: .35rem; align-items: center; margin: 0; }
.cx-compact .cx-sizes, .cx-compact .cx-side, .cx-compact .cx-choice { display: none; }
.cx-compact .cx-drawing svg { max-height: 21rem; } .cx-compact .cx-status { min-height: 2.8em; margin: .3rem 0; font-size: .85rem; }
@media (max-width: 576px) { .cx-compact .cx-status { min-height: 2.8em; } }
.cx-compact .cx-line { grid-template-columns: 4rem 1fr 5rem; } .cx-compact .cx-legend { font-size: .75rem; }
.cx-link { font-size: .85rem; } .cx .cx-link a { color: #0b57d0; }
.cx .edge { fill: none; stroke-linecap: butt; transition: stroke-width .35s, opacity .35s; }
.cx .hit { fill: none; stroke: transparent; stroke-width: 9; pointer-events: stroke; }
.cx .node text { font: 12px system-ui, sans-serif; text-anchor: middle; fill: #000; pointer-events: none; }
.cx .node { cursor: pointer; } .cx .node .shape { stroke: #333; stroke-width: 1.2; }
.cx .node.ghost { cursor: default; } .cx .ghost .shape { fill: #fff; stroke: #bbb; } .cx .ghost text { fill: #8a8a8a; font-size: 9px; }
.cx .node:focus { outline: none; } .cx .node:focus-visible .shape { stroke: #0b57d0; stroke-width: 3.5; }
.cx .node.selected .shape { stroke: #000; stroke-width: 3.5; }
.cx .dim { opacity: .13; } .cx .node.dim { opacity: .35; }
.cx .layer { font: 12px system-ui, sans-serif; fill: #555; } .cx .rule { stroke: #e2e2e2; }
.cx .absent { font: 13px system-ui, sans-serif; fill: #333; text-anchor: middle; }
@media (prefers-reduced-motion: reduce) { .cx .edge { transition: none; } }
@media print { .cx button.cx-button, .cx-line, .cx-link { display: none; } .cx-list { max-height: none; overflow: visible; }
  .cx-drawing { flex-basis: 55%; } .cx { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }`;

  // ------------------------------------------------------------------ small tools

  const make = (space, tag, attributes, inside) => {
    const one = space ? document.createElementNS(space, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value !== null) one.setAttribute(name, value);
    one.append(...inside);
    return one;
  };
  const html = (tag, attributes, ...inside) => make(null, tag, attributes, inside);
  const svg = (tag, attributes, ...inside) => make("http://www.w3.org/2000/svg", tag, attributes, inside);
  const short = n => {                                               // short(4194304) -> "4.19M", as figures.short_number
    for (const [unit, size] of [["B", 1e9], ["M", 1e6], ["k", 1e3]]) if (n >= size) return `${+(n / size).toPrecision(3)}${unit}`;
    return `${+n.toPrecision(3)}`;
  };
  const signed = v => (v < 0 ? "\u2212" : "+") + Math.abs(v).toPrecision(3);
  const percent = v => `${(100 * v).toFixed(1).replace(/\.0$/, "").replace("-", "\u2212")} %`;
  const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const clamp = (v, low, high) => Math.min(high, Math.max(low, v));

  // ------------------------------------------------------------------ the graph: the same numbers as circuitbook.graph

  const decodeEdge = (id, layers, heads) => {
    const columns = layers * (3 * heads + 1) + 1, src = Math.floor(id / columns), dst = id % columns;
    const node = (layer, place) => place === heads ? `m${layer}` : `a${layer}.h${place}`;
    const from = src === 0 ? "input" : node(Math.floor((src - 1) / (heads + 1)), (src - 1) % (heads + 1));
    const layer = Math.floor(dst / (3 * heads + 1)), slot = dst % (3 * heads + 1);
    const kind = layer === layers || slot === 3 * heads ? "" : "qkv"[Math.floor(slot / heads)];
    const to = layer === layers ? "logits" : kind ? node(layer, slot % heads) : `m${layer}`;
    return {id, from, to, kind, name: `${from}->${to}${kind && `<${kind}>`}`};
  };
  const label = node => node[0] === "a" ? node.slice(1).replace(".h", ".") : node[0] === "m" ? `MLP ${node.slice(1)}` : node;
  const spoken = node => node[0] === "a" ? `head ${label(node)}` : label(node);

  // Every node has its place once and for all, in the circuit or not: so nothing moves while a circuit grows.
  const layOut = ({layers, heads}) => {
    const high = layers > 12 ? 62 : 78, width = MARGIN + (heads + 1.5) * SLOT + 14, height = (layers + 1) * high + 56;
    const nodes = new Map(), middle = MARGIN + (heads + 1.5) * SLOT / 2;
    nodes.set("input", {x: middle, y: height - 26, row: 0, w: 33, h: 14});
    for (let layer = 0; layer < layers; layer++) {
      const y = height - 26 - (layer + 1) * high, shift = (layer % 2) * SLOT / 2;      // lines that skip a layer pass between
      for (let head = 0; head < heads; head++) nodes.set(`a${layer}.h${head}`, {x: MARGIN + (head + .5) * SLOT + shift, y, row: layer + 1, w: 19, h: 19});
      nodes.set(`m${layer}`, {x: MARGIN + (heads + .5) * SLOT + shift, y: y - 4, row: layer + 1, w: 28, h: 14});
    }
    nodes.set("logits", {x: middle, y: 24, row: layers + 1, w: 33, h: 14});
    return {nodes, width, height, high};
  };
  const route = (a, b, kind) => {
    const port = {q: -10, k: 0, v: 10, "": 0}[kind], x0 = a.x, y0 = a.y - a.h, x1 = b.x + port, y1 = b.y + b.h;
    const rise = y0 - y1, skips = b.row - a.row > 1, near = Math.abs(b.x - a.x) < SLOT * .6;
    const bow = skips && near ? SLOT * .62 * (kind === "q" || (kind === "k" && b.x < a.x) ? -1 : 1) : 0;
    const pull = Math.max(14, rise * (skips ? .38 : .5));
    return `M${x0} ${y0}C${x0 + bow} ${y0 - pull} ${x1 + bow} ${y1 + pull} ${x1} ${y1}`;
  };

  // ------------------------------------------------------------------ shapes: classes differ without their colours

  const polygon = (n, r, turn = 0, inner = r) => "M" + Array.from({length: n}, (_, i) => {
    const angle = turn + 2 * Math.PI * i / n - Math.PI / 2, radius = i % 2 ? inner : r;
    return `${(radius * Math.cos(angle)).toFixed(1)} ${(radius * Math.sin(angle)).toFixed(1)}`;
  }).join("L") + "Z";
  const circle = r => `M${-r} 0A${r} ${r} 0 1 1 ${r} 0A${r} ${r} 0 1 1 ${-r} 0Z`;
  const box = (w, h) => `M${-w} ${-h}H${w}V${h}H${-w}Z`;
  const SHAPES = [polygon(4, 24), polygon(6, 21), polygon(3, 29), polygon(10, 26, 0, 15), polygon(5, 22), polygon(8, 21, Math.PI / 8),
    "M-8 -21H8V-8H21V8H8V21H-8V8H-21V-8H-8Z"];
  const pale = colour => "rgb(" + [1, 3, 5].map(i => Math.round(255 - .55 * (255 - parseInt(colour.slice(i, i + 2), 16)))) + ")";
  const sample = (kind, negative, inputs) => svg("svg", {viewBox: "0 0 26 12", width: 26, height: 12, "aria-hidden": "true"},
    svg("path", {d: "M0 6H26", stroke: kind === null ? "#333" : inputs[kind][0], "stroke-width": 3, "stroke-dasharray": negative ? "6 4" : null}));

  // ------------------------------------------------------------------ the state in the page's address: #name.model=...&name.task=...

  const inAddress = name => {
    const all = new URLSearchParams(location.hash.slice(1)), mine = {};
    for (const [key, value] of all) if (key.startsWith(`${name}.`)) mine[key.slice(name.length + 1)] = value;
    return Object.keys(mine).length ? mine : null;
  };
  const addressWith = (name, mine) => {
    const all = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");      // others' stay
    for (const key of [...all.keys()]) if (key.startsWith(`${name}.`)) all.delete(key);
    for (const [key, value] of Object.entries(mine)) all.set(`${name}.${key}`, value);
    return `#${all}`;
  };

  // ------------------------------------------------------------------ one explorer

  // compact: one model and task, no sizes, no lists; it plays by itself once it is seen, leaves the address alone, and links to `compact`
  function render(id, {name, start, inputs, classes, data, compact}) {
    const place = document.getElementById(id),
      still = matchMedia("(prefers-reduced-motion: reduce)");
    const taken = [...document.querySelectorAll("[data-explorer]")].map(other => other.dataset.explorer),
      wish = name;
    for (let i = 2; taken.includes(name); i++) name = `${wish}-${i}`; // two views of a page that were given the same name
    place.dataset.explorer = name;
    if (!document.getElementById("cx-style")) document.head.append(html("style", {id: "cx-style"}, STYLE));

    const models = Object.keys(data.models),
      tasks = Object.keys(data.tasks),
      decoded = new Map();
    const usual = () => ({
      model: start[0],
      task: start[1],
      at: data.models[start[0]].steps.length - 1,
      size: null,
      node: null,
    });
    let state = usual(),
      drawing = null,
      timer = null,
      saved = null; // size null: the circuit's own

    // ---- what is asked of the data

    const circuit = (at = state.at) => {
      const one = data.circuits[state.model][state.task][at],
        key = `${state.model} ${state.task} ${at}`;
      if (!one || one.why) return null;
      if (!decoded.has(key)) {
        const {layers, heads} = data.models[state.model];
        let enters = 0;
        decoded.set(key, {
          ...one,
          own: Math.min(one.size, one.end),
          edges: one.edges.map((edge, i) => ({
            ...decodeEdge(edge, layers, heads),
            enters: (enters += one.enters[i]),
            score: one.scores[i],
          })),
        });
      }
      return decoded.get(key);
    };
    const sizeOf = one => (state.size === null ? one.own : clamp(state.size, 1, one.end));
    const edgesOf = one => one.edges.filter(edge => edge.enters <= sizeOf(one));
    const rolesOf = node => (data.roles && data.roles[state.model][state.at][node]) || [];
    const classNames = Object.keys(classes);
    const largest = () => {
      // of all checkpoints, so that widths can be compared
      const key = `largest ${state.model} ${state.task}`;
      if (!decoded.has(key))
        decoded.set(
          key,
          Math.max(
            1e-30,
            ...data.circuits[state.model][state.task].flatMap(one => (one && one.scores ? one.scores.map(Math.abs) : [])),
          ),
        );
      return decoded.get(key);
    };

    // ---- the parts of the view

    const choose = (what, values) => {
      const select = html(
        "select",
        {autocomplete: "off", name: what},
        ...Object.entries(values).map(([value, text]) => html("option", {value}, text)),
      );
      return [select, html("label", {class: "cx-choice"}, what, select)];
    };
    const [model, modelLabel] = choose("model", Object.fromEntries(models.map(m => [m, m])));
    const [task, taskLabel] = choose("task", data.tasks);
    const slider = (what, title) =>
      html("input", {type: "range", min: 0, max: 1, step: 1, name: what, id: `${id}-${what}`, autocomplete: "off", title});
    const training = slider("training", "checkpoint"),
      size = slider("edges", "number of edges");
    const play = html("button", {type: "button", class: "cx-button", name: "play"}, "Play");
    const own = html("button", {type: "button", class: "cx-button", name: "own"}, "Own size");
    const track = html("div", {class: "cx-track", "aria-hidden": "true"}),
      when = html("output", {for: training.id}),
      howMany = html("output", {for: size.id});
    const curve = svg("svg", {
      class: "cx-curve",
      viewBox: "0 0 100 30",
      preserveAspectRatio: "none",
      style: "width: 100%; height: 2rem",
      "aria-hidden": "true",
    });
    const curveLabel = html("span", {class: "cx-small", "aria-hidden": "true"});
    const status = html("p", {class: "cx-status", role: "status"}),
      list = html("div", {class: "cx-list", tabindex: 0, role: "group", "aria-label": "edges and their scores"});
    const side = html("div", {class: "cx-side"}),
      canvas = html("div", {class: "cx-drawing"}),
      link = html("a", {href: compact || "#"}, compact ? "Take it apart" : "Link to this view");
    const legend = html("ul", {class: "cx-legend", "aria-label": "legend"});
    side.append(list);
    taskLabel.hidden = tasks.length < 2;
    taskLabel.style.display = taskLabel.hidden ? "none" : "";
    place.replaceChildren(
      html(
        "div",
        {class: compact ? "cx cx-compact" : "cx"},
        html(
          "div",
          {class: "cx-controls"},
          modelLabel,
          taskLabel,
          html(
            "div",
            {class: "cx-line"},
            html("label", {for: training.id}, "training"),
            training,
            play,
            track,
            html("span", {}),
            when,
          ),
          html("div", {class: "cx-line cx-sizes"}, html("label", {for: size.id}, "edges"), size, own, curve, curveLabel, howMany),
        ),
        status,
        html("div", {class: "cx-both"}, canvas, side),
        legend,
        html("div", {class: "cx-link"}, link),
      ),
    );

    // ---- drawing

    const layModel = () => {
      const {layers} = data.models[state.model],
        laid = layOut(data.models[state.model]),
        edges = svg("g"),
        nodes = svg("g");
      const picture = svg("svg", {
        viewBox: `0 0 ${laid.width} ${laid.height}`,
        role: "group",
        "aria-label":
          "the circuit, input below and logits on top; arrow keys move from node to node, Enter selects one, Escape lets go",
      });
      picture.style.minWidth = `${Math.min(laid.width, Math.max(260, laid.width * 0.62))}px`;
      picture.style.maxWidth = `${laid.width * 1.2}px`;
      canvas.style.flexBasis = `${Math.max(350, parseFloat(picture.style.minWidth))}px`; // a wide one has the row to itself
      for (let layer = 0; layer < layers; layer++) {
        const y = laid.height - 26 - (layer + 1) * laid.high;
        picture.append(
          svg("line", {class: "rule", x1: MARGIN - 8, x2: laid.width, y1: y + laid.high / 2, y2: y + laid.high / 2}),
          svg("text", {class: "layer", x: 2, y: y + 4}, `layer ${layer}`),
        );
      }
      const message = svg("g", {"aria-hidden": "true"});
      picture.append(edges, nodes, message);
      const of = new Map();
      for (const [node, at] of laid.nodes) {
        const shape = svg("path", {class: "shape"}),
          text = svg("text", {y: 4}, label(node)),
          title = svg("title");
        const group = svg(
          "g",
          {class: "node", transform: `translate(${at.x} ${at.y})`, "data-node": node, role: "button"},
          title,
          shape,
          text,
        );
        nodes.append(group);
        of.set(node, {group, shape, text, title, ...at});
      }
      drawing = {...laid, model: state.model, edges, message, nodes: of, lines: new Map(), stop: null};
      canvas.replaceChildren(picture);
    };

    const drawEdges = shown => {
      const {lines, edges, nodes} = drawing,
        there = new Set(shown.map(edge => edge.id)),
        widest = largest();
      for (const [edge, line] of lines)
        if (!there.has(edge)) {
          line.group.remove();
          lines.delete(edge);
        }
      for (const edge of shown) {
        let line = lines.get(edge.id);
        if (!line) {
          const d = route(nodes.get(edge.from), nodes.get(edge.to), edge.kind);
          line = {
            path: svg("path", {class: "edge", d, stroke: inputs[edge.kind][0], "stroke-width": 0}),
            hit: svg("path", {class: "hit", d}),
            title: svg("title"),
          };
          line.hit.append(line.title);
          line.group = svg("g", {"data-edge": edge.name}, line.path, line.hit);
          lines.set(edge.id, line);
          if (!still.matches) line.path.getBoundingClientRect(); // so that it grows from nothing
        }
        const width = 1 + (6 * Math.abs(edge.score)) / widest,
          touched = state.node === null || edge.from === state.node || edge.to === state.node;
        line.path.setAttribute("stroke-width", width.toFixed(2));
        line.path.style.strokeWidth = `${width.toFixed(2)}px`;
        line.path.setAttribute("stroke-dasharray", edge.score < 0 ? `${4 + width} ${2 + width}` : "none");
        line.group.setAttribute("class", touched ? "" : "dim");
        line.title.textContent = `${label(edge.from)} \u2192 ${label(edge.to)}${edge.kind && ` (${TYPED[edge.kind]})`}: ${signed(edge.score)}`;
      }
      edges.append(...[...shown].reverse().map(edge => lines.get(edge.id).group)); // the first in order on top
    };

    const drawNodes = shown => {
      const inside = new Map(),
        near = new Set([state.node]);
      const tally = node => inside.get(node) || inside.set(node, {in: 0, out: 0}).get(node);
      for (const edge of shown) {
        tally(edge.from).out++;
        tally(edge.to).in++;
        if (edge.from === state.node) near.add(edge.to);
        if (edge.to === state.node) near.add(edge.from);
      }
      if (!inside.has(drawing.stop))
        drawing.stop = inside.has(state.node)
          ? state.node
          : [...drawing.nodes.keys()].find(node => inside.has(node)) || null;
      for (const [node, {group, shape, text, title, w, h}] of drawing.nodes) {
        const there = inside.get(node),
          roles = rolesOf(node),
          head = node[0] === "a",
          main = roles.length ? classNames[roles[0]] : null;
        const what = [spoken(node), ...roles.map(i => classNames[i])].join(", ");
        group.setAttribute(
          "class",
          [
            "node",
            there ? "" : "ghost",
            node === state.node ? "selected" : "",
            state.node !== null && !near.has(node) ? "dim" : "",
          ]
            .filter(Boolean)
            .join(" "),
        );
        shape.setAttribute(
          "d",
          !there && head ? circle(12) : !head ? box(w, h) : main ? SHAPES[roles[0] % SHAPES.length] : circle(19),
        );
        shape.setAttribute("fill", !there ? "#fff" : main ? pale(classes[main]) : head ? "#fff" : "#ececec");
        text.setAttribute("y", main && there && SHAPES[roles[0] % SHAPES.length] === SHAPES[2] ? 8 : 4);
        title.textContent = there ? `${what}: ${there.in} in, ${there.out} out` : `${what}: not in the circuit`;
        if (there) {
          group.setAttribute("tabindex", node === drawing.stop ? 0 : -1);
          group.setAttribute("aria-pressed", node === state.node);
          group.setAttribute("aria-label", `${what}: ${count(there.in, "edge")} in, ${there.out} out`);
          group.removeAttribute("aria-hidden");
        } else {
          for (const attribute of ["tabindex", "aria-pressed", "aria-label"]) group.removeAttribute(attribute);
          group.setAttribute("aria-hidden", "true");
        }
      }
      drawing.inside = inside;
    };

    const write = lines => {
      const {message, width, height} = drawing,
        y = height / 2 - 9 * lines.length;
      message.replaceChildren(
        ...(lines.length
          ? [
              svg("rect", {
                x: 6,
                y: y - 20,
                width: width - 12,
                height: 18 * lines.length + 16,
                fill: "#fff",
                stroke: "#bbb",
                rx: 5,
              }),
            ]
          : []),
        ...lines.map((line, i) => svg("text", {class: "absent", x: width / 2, y: y + 18 * i}, line)),
      );
    };

    const drawCurve = one => {
      // faithfulness over size, below the slider of sizes
      curve.style.visibility = one ? "visible" : "hidden";
      curveLabel.textContent = one ? `faithfulness; dashes: ${percent(one.threshold)}` : "";
      if (!one) return;
      const x = n => (100 * (n - 1)) / Math.max(1, one.end - 1),
        y = kept => 28 - 24 * clamp(kept, 0, 1.1);
      const points = one.curve
        .filter(([edges]) => edges <= one.edges.length)
        .map(([edges, kept]) => [edges ? one.edges[edges - 1].enters : 1, kept]);
      curve.replaceChildren(
        svg("path", {class: "bar", d: `M0 ${y(one.threshold)}H100`}),
        svg("path", {class: "at", d: `M${x(sizeOf(one))} 0V30`}),
        svg("path", {
          d: points.map(([n, kept], i) => `${i ? "L" : "M"}${x(n).toFixed(2)} ${y(kept).toFixed(2)}`).join("") || "M0 0",
        }),
      );
    };

    // ---- words and lists

    const faithfulness = (one, edges) => {
      const tell = ([, value, low, high]) => percent(value) + (low === null ? "" : ` [${percent(low)}, ${percent(high)}]`);
      const exact = one.curve.find(row => row[0] === edges);
      if (exact) return `faithfulness ${tell(exact)}`;
      const below = one.curve.filter(row => row[0] < edges).at(-1),
        above = one.curve.find(row => row[0] > edges);
      return (
        "faithfulness was not measured at this size" +
        (below && above
          ? `; it is ${percent(below[1])} with ${below[0]} edges and ${percent(above[1])} with ${above[0]}`
          : "")
      );
    };
    const moment = at => {
      const {steps, tokens} = data.models[state.model];
      return `${short(tokens[at])} tokens (step ${steps[at]})`;
    };
    const words = (one, shown) => {
      const where = `${state.model}, ${data.tasks[state.task]}, after ${moment(state.at)}: `;
      if (compact)
        return one
          ? `${count(shown.length, "edge")} of ${state.model} keep ${percent(one.threshold)} of what it does in ${data.tasks[state.task]}.`
          : `${state.model} does not do ${data.tasks[state.task]} yet.`;
      if (!one)
        return (
          where +
          ((data.circuits[state.model][state.task][state.at] || {}).why
            ? `no circuit. ${upper(data.circuits[state.model][state.task][state.at].why)}.`
            : "not measured.")
        );
      const n = sizeOf(one),
        nodes = drawing.inside.size,
        end = one.size > one.end ? ` This view holds its first ${one.end}.` : "";
      let text =
        where +
        (n === one.size
          ? `the smallest circuit that keeps ${percent(one.threshold)} has ${count(shown.length, "edge")} and ${count(nodes, "node")}, `
          : `the first ${count(n, "edge")} of the search${shown.length < n ? `, of which ${shown.length} lie on a path from input to logits` : ""}, ${count(nodes, "node")}, `) +
        `${faithfulness(one, shown.length)}.` +
        (n === one.size ? "" : ` The circuit's own size is ${one.size}.`) +
        end;
      const before = state.at > 0 ? circuit(state.at - 1) : null;
      if (before) {
        const old = new Set(edgesOf(before).map(edge => edge.id)),
          kept = shown.filter(edge => old.has(edge.id)).length;
        text +=
          kept === shown.length && kept === old.size
            ? " The same edges as at the checkpoint before."
            : ` Since the checkpoint before, ${count(shown.length - kept, "edge")} came and ${old.size - kept} went.`;
      }
      return text;
    };
    const upper = text => text[0].toUpperCase() + text.slice(1);

    const entry = (edge, ends) => {
      const go = node => {
        const button = html("button", {type: "button"}, label(node));
        button.addEventListener("click", () => {
          drawing.stop = node;
          select(node);
          drawing.nodes.get(node).group.focus({preventScroll: true});
        });
        return button;
      };
      const text = html("span", {});
      ends.forEach((node, i) => {
        if (i) text.append(" \u2192 ");
        text.append(go(node));
      });
      if (edge.kind) text.append(` ${TYPED[edge.kind]}`);
      return html(
        "li",
        {"data-edge": edge.name},
        sample(edge.kind, edge.score < 0, inputs),
        text,
        html("span", {}, signed(edge.score)),
      );
    };
    const listed = shown => {
      const by = shown.slice().sort((a, b) => Math.abs(b.score) - Math.abs(a.score));
      const part = (title, edges, ends) => [
        html("h4", {}, `${title} (${edges.length})`),
        html("ul", {}, ...edges.map(edge => entry(edge, ends(edge)))),
      ];
      if (state.node === null) return shown.length ? part("All edges, by score", by, edge => [edge.from, edge.to]) : [];
      const roles = rolesOf(state.node).map(i => classNames[i]),
        here = drawing.inside.has(state.node);
      const none = html("button", {type: "button", class: "cx-button", name: "none"}, "Show all");
      none.addEventListener("click", () => {
        select(null);
        list.focus({preventScroll: true});
      });
      const parts = [html("h4", {}, upper(spoken(state.node)), roles.length ? `: ${roles.join(", ")}` : ""), none];
      const values = data.notes && data.notes[state.model][state.at][state.node];
      const numbers = !values
        ? []
        : [
            html("h4", {}, "Measured at this checkpoint"),
            html(
              "dl",
              {},
              ...data.columns.flatMap((column, i) =>
                values[i] === null
                  ? []
                  : [html("dt", {}, column), html("dd", {}, values[i].toFixed(2).replace("-", "\u2212"))],
              ),
            ),
          ];
      if (!here) return [...parts, html("p", {}, "Not in the circuit at this checkpoint and size."), ...numbers];
      const [into, out] = [by.filter(edge => edge.to === state.node), by.filter(edge => edge.from === state.node)];
      return [
        ...parts,
        ...(into.length ? part("In", into, edge => [edge.from]) : []),
        ...(out.length ? part("Out", out, edge => [edge.to]) : []),
        ...numbers,
      ];
    };

    const explain = () => {
      const used = new Set(
        data.roles ? data.roles[state.model].flatMap(of => Object.values(of).map(roles => roles[0])) : [],
      );
      const line = (picture, text) => html("li", {}, picture, text);
      const shape = (d, fill) =>
        svg(
          "svg",
          {viewBox: "-30 -30 60 60", width: 18, height: 18, "aria-hidden": "true"},
          svg("path", {d, fill, stroke: "#333", "stroke-width": 3}),
        );
      const ports = {q: ", at a head's left", k: ", in its middle", v: ", at its right", "": ""};
      const lines = [
        ...Object.entries(inputs).map(([kind, [, text]]) => line(sample(kind, false, inputs), text + ports[kind])),
        line(sample(null, true, inputs), "negative score: it harms"),
        html("li", {}, "width: score, on one scale for all checkpoints"),
      ];
      legend.replaceChildren(
        ...(compact ? [] : lines),
        ...classNames.flatMap((text, i) =>
          used.has(i) ? [line(shape(SHAPES[i % SHAPES.length], pale(classes[text])), text)] : [],
        ),
        ...(used.size ? [line(shape(circle(22), "#fff"), "head in no class")] : []),
      );
    };

    // ---- one look at everything

    const show = () => {
      const one = circuit(),
        {steps} = data.models[state.model];
      if (!drawing || drawing.model !== state.model) {
        layModel();
        explain();
      }
      const shown = one ? edgesOf(one) : [];
      drawEdges(shown);
      drawNodes(shown);
      const why = one
        ? []
        : wrap(
            (data.circuits[state.model][state.task][state.at] || {why: "not measured"}).why,
            Math.floor(drawing.width / 7.2),
          );
      write(
        one && !shown.length
          ? wrap(
              `None of the first ${count(sizeOf(one), "edge")} lies on a path from input to logits.`,
              Math.floor(drawing.width / 7.2),
            )
          : one
            ? []
            : ["No circuit:", ...why],
      );
      model.value = state.model;
      task.value = state.task;
      training.max = steps.length - 1;
      training.value = state.at;
      training.disabled = play.disabled = steps.length < 2;
      when.textContent = moment(state.at);
      training.setAttribute("aria-valuetext", moment(state.at) + (one ? "" : ", no circuit"));
      track.replaceChildren(
        ...data.circuits[state.model][state.task].map(of => html("i", of && !of.why ? {class: "on"} : {})),
      );
      size.disabled = own.disabled = !one;
      size.min = 1;
      size.max = one ? one.end : 1;
      size.value = one ? sizeOf(one) : 1;
      const many = !one
        ? "no circuit"
        : `${count(shown.length, "edge")}${shown.length < sizeOf(one) ? ` (first ${sizeOf(one)})` : ""}${state.size === null ? ", the circuit's own size" : ""}`;
      howMany.textContent = many;
      size.setAttribute("aria-valuetext", many);
      own.disabled = !one || state.size === null;
      drawCurve(one);
      list.replaceChildren(...listed(shown));
      list.scrollTop = 0;
      status.textContent = words(one, shown);
      if (!compact) link.href = addressWith(name, mine());
    };
    const wrap = (text, most) =>
      text.split(" ").reduce((lines, word) => {
        if (lines.at(-1) && `${lines.at(-1)} ${word}`.length > most) lines.push(word);
        else lines.push(`${lines.pop() || ""} ${word}`.trim());
        return lines;
      }, []);

    // ---- state: every change goes through `change`

    const mine = () => ({
      model: state.model,
      task: state.task,
      step: data.models[state.model].steps[state.at],
      ...(state.size === null ? {} : {edges: state.size}),
      ...(state.node === null ? {} : {node: state.node}),
    });
    const save = () => {
      clearTimeout(saved);
      if (compact) return;
      saved = setTimeout(() => {
        try {
          history.replaceState(history.state, "", addressWith(name, mine()));
        } catch {
          /* a sandbox without an address */
        }
      }, 150);
    };
    const change = what => {
      Object.assign(state, what);
      show();
      if (!timer) save();
    };
    const select = node => {
      change({node: node === state.node ? null : node});
    };
    const pause = () => {
      if (!timer) return;
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
      status.removeAttribute("aria-live");
      save();
    };
    const begin = () => {
      const last = data.models[state.model].steps.length - 1;
      status.setAttribute("aria-live", "off"); // a reader would never come to an end
      timer = setInterval(
        () => {
          if (state.at >= last) pause();
          else {
            change({at: state.at + 1});
            if (state.at >= last) pause();
          }
        },
        still.matches ? 2 * PLAY_MS : PLAY_MS,
      );
      play.textContent = "Pause";
      const born = data.circuits[state.model][state.task].findIndex(one => one && !one.why);
      change({at: state.at >= last ? Math.max(0, born - 1) : state.at}); // from the end: on from just before the first circuit
    };
    const moveTo = value => {
      // another model: the checkpoint that has seen as much
      const {tokens} = data.models[value],
        seen = data.models[state.model].tokens[state.at];
      const near = tokens.reduce((best, t, i) => (Math.abs(t - seen) < Math.abs(tokens[best] - seen) ? i : best), 0);
      const fits =
        state.node === null || ["input", "logits"].includes(state.node) || layOut(data.models[value]).nodes.has(state.node);
      change({model: value, at: near, node: fits ? state.node : null});
    };
    const restore = () => {
      const given = inAddress(name);
      if (!given) return false;
      pause();
      const next = usual();
      if (models.includes(given.model)) {
        next.model = given.model;
        next.at = data.models[next.model].steps.length - 1;
      }
      if (tasks.includes(given.task)) next.task = given.task;
      const at = data.models[next.model].steps.indexOf(Number(given.step));
      if (at >= 0) next.at = at;
      if (/^[1-9]\d*$/.test(given.edges || "")) next.size = Number(given.edges);
      if (layOut(data.models[next.model]).nodes.has(given.node)) next.node = given.node;
      state = next;
      show();
      return true;
    };

    model.addEventListener("change", () => {
      pause();
      moveTo(model.value);
    });
    task.addEventListener("change", () => change({task: task.value}));
    training.addEventListener("input", () => {
      pause();
      change({at: Number(training.value)});
    });
    size.addEventListener("input", () => change({size: Number(size.value)}));
    own.addEventListener("click", () => {
      change({size: null});
      size.focus();
    });
    play.addEventListener("click", () => (timer ? pause() : begin()));
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) pause();
    });
    if (!compact) addEventListener("hashchange", restore);
    place.addEventListener("keydown", event => {
      if (event.key !== "Escape" || state.node === null) return;
      event.preventDefault();
      change({node: null});
      if (!place.contains(document.activeElement)) list.focus({preventScroll: true}); // the button that had it is gone
    });
    canvas.addEventListener("click", event => {
      const group = event.target.closest(".node");
      if (group && drawing.inside.has(group.dataset.node)) {
        drawing.stop = group.dataset.node;
        select(group.dataset.node);
        group.focus();
      } else if (state.node !== null && !event.target.closest(".hit")) change({node: null});
    });
    canvas.addEventListener("keydown", event => {
      const group = event.target.closest(".node"),
        here = group && drawing.nodes.get(group.dataset.node);
      if (!here) return;
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        select(group.dataset.node);
        return;
      }
      const [dx, dy] = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key] || [0, 0];
      if (!dx && !dy) return;
      event.preventDefault();
      const others = [...drawing.inside.keys()]
        .map(node => ({node, ...drawing.nodes.get(node)}))
        .filter(o => (dx ? o.row === here.row && (o.x - here.x) * dx > 0 : (o.row - here.row) * dy > 0));
      const next = others.sort(
        (a, b) => Math.abs(a.row - here.row) - Math.abs(b.row - here.row) || Math.abs(a.x - here.x) - Math.abs(b.x - here.x),
      )[0];
      if (!next) return;
      drawing.stop = next.node;
      for (const [node, {group: g}] of drawing.nodes)
        if (drawing.inside.has(node)) g.setAttribute("tabindex", node === next.node ? 0 : -1);
      next.group.focus();
    });

    if (compact) {
      show();
      if (!still.matches && "IntersectionObserver" in window) {
        const seen = new IntersectionObserver(entries => {
          if (!entries.some(entry => entry.isIntersecting)) return;
          seen.disconnect();
          if (!training.disabled) begin();
        });
        seen.observe(place);
      }
    } else if (restore()) place.scrollIntoView({block: "start"});
    else show();
  }

  return {render};
})();
