// circuitsvis' view of attention patterns: small maps to choose from, the chosen one large.

function render(place, { tokens, attention, names }) {
  const { CircuitsVis } = globalThis;
  CircuitsVis.render(place.id, CircuitsVis.AttentionHeads, {
    tokens,
    attention,
    attentionHeadNames: names,
    maskUpperTri: true,
  });
}

globalThis.AttentionHeads = { render };
