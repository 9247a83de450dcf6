"""Interactive views. Their script is one file per site, not one per figure, and no page asks another host for it."""

from __future__ import annotations

import json
import os
import uuid
from importlib.resources import files
from typing import TYPE_CHECKING

from IPython.display import HTML

if TYPE_CHECKING:                                      # the build needs the script only, not torch
    import torch

SCRIPT = "circuitsvis.js"                              # in _static of the book: `build.stage` puts it there


def circuitsvis_script() -> str:
    """The browser script of the installed circuitsvis."""
    return (files("circuitsvis") / "dist" / "cdn" / "iife.js").read_text(encoding="utf8")


def attention_heads(tokens: list[str], patterns: torch.Tensor, names: list[str]) -> HTML:
    """circuitsvis' view of attention patterns [head, query, key]: small maps to choose from, the chosen one large.

    In the book it uses the site's script; anywhere else, as in Colab, it brings its own.
    """
    if patterns.ndim != 3 or patterns.shape[1:] != (len(tokens),) * 2 or len(names) != len(patterns):
        raise ValueError(f"patterns must be [{len(names)}, {len(tokens)}, {len(tokens)}], one map per name, not "
                         f"{list(patterns.shape)}")
    place = f"attention-{uuid.uuid5(uuid.NAMESPACE_OID, repr((tokens, names, patterns.sum().item()))).hex[:10]}"
    props = json.dumps({"tokens": tokens, "attention": patterns.double().cpu().numpy().round(4).tolist(),
                        "attentionHeadNames": names, "maskUpperTri": True}).replace("</", "<\\/")
    draw = f'CircuitsVis.render("{place}", CircuitsVis.AttentionHeads, {props})'
    if os.environ.get("CIRCUITBOOK_PAGES"):
        script = (f"(() => {{ const draw = () => {draw}; if (window.CircuitsVis) return draw(); "
                  'const script = document.createElement("script"); '
                  f'script.src = (document.documentElement.dataset.content_root || "../") + "_static/{SCRIPT}"; '
                  "script.onload = draw; document.head.append(script); })()")
    else:
        script = circuitsvis_script().replace("</script", "<\\/script") + ";\nwindow.CircuitsVis = CircuitsVis;\n" + draw
    return HTML(f'<div id="{place}" class="light-card" role="img" aria-label="Attention patterns of heads '
                f'{", ".join(names)}" style="min-height: 12rem"></div><script>{script}</script>')
