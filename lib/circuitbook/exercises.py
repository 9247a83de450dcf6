"""The exercises' checks: give one your function, and it says in a sentence what is wrong with it.

    check_faithfulness(my_function)  ->  Not right yet: Your value is the ratio m / b: ... (Seen on 4 inputs.)

Inputs are plain tensors, lists and sets; the values compared with are the library's own, on shipped checkpoints where the
exercise is about a model. Every check takes a function of the inputs that its docstring lists, in that order, and returns a
`checking.Verdict`. `CHECKS` lists them with their typical mistakes. What a book's build runs is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pandas as pd
import torch

from . import algorithm, formation, heads, patching, search, stability, stats
from .attribution import attribute
from .checking import Case, Check, Mistake, Verdict, names, number, series
from .circuits import circuit_of
from .graph import Graph
from .network import attention_pattern, network_of, run
from .over_training import jaccard
from .suites import load_suite
from .tasks import get_task
from .tasks.base import logit_difference

CHECKS: dict[str, Check] = {}


def _register(name: str, *args, **options) -> Check:
    CHECKS[name] = Check(*args, **options)
    return CHECKS[name]


@cache
def _model(name: str):
    """The last checkpoint of a shipped model, float64: rounding shall not decide who is right."""
    suite = load_suite("mini")
    return suite.checkpoint(name, suite.steps(name)[-1]).load(dtype=torch.float64)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------ abilities

def _logit_cases() -> list[Case]:
    cases = []
    for n, vocab, seed in ((5, 12, 1), (1, 7, 2), (8, 30, 3)):
        logits = 2 * _random(n, vocab, seed=seed)
        draw = torch.Generator().manual_seed(seed)
        pairs = torch.stack([torch.randperm(vocab, generator=draw)[:2] for _ in range(n)])
        right = logit_difference(logits, pairs, torch.tensor([1, -1]).expand(n, 2)).mean().item()
        cases.append(Case(f"{n} prompt{'s' * (n > 1)}, {vocab} tokens", (logits, pairs[:, 0], pairs[:, 1]), right))
    return cases


def _picked(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return logits.gather(1, tokens[:, None])[:, 0]


_register(
    "logit_difference", "The logit difference", ("logits [prompt, token]", "right [prompt]", "wrong [prompt]"), _logit_cases, (
        Mistake("Your score has the wrong sign: it is the right answer's logit less the wrong one's, not the other way round.",
                lambda l, r, w: (_picked(l, w) - _picked(l, r)).mean()),
        Mistake("You sum over the prompts: take the mean, or the score grows with their number.",
                lambda l, r, w: (_picked(l, r) - _picked(l, w)).sum()),
        Mistake("You score the first prompt alone: average over all of them.",
                lambda l, r, w: (_picked(l, r) - _picked(l, w))[0]),
        Mistake("You subtract probabilities: the logits themselves are wanted, without a softmax.",
                lambda l, r, w: (_picked(l.softmax(1), r) - _picked(l.softmax(1), w)).mean()),
        Mistake("You take the right answer's logit alone: subtract the wrong answer's, since all logits may move together.",
                lambda l, r, w: _picked(l, r).mean()),
        Mistake("You compare with the wrong token: subtract the logit of the wrong answer, not the largest logit.",
                lambda l, r, w: (_picked(l, r) - l.amax(1)).mean()),
        Mistake("You take the size of each difference: a prompt that the model gets wrong must count as negative.",
                lambda l, r, w: (_picked(l, r) - _picked(l, w)).abs().mean())),
    each=lambda logits, right, wrong: {"prompt": len(logits)})


def check_logit_difference(function: Callable) -> Verdict:
    """function(logits [prompt, token], right [prompt], wrong [prompt]) -> the mean logit difference."""
    return CHECKS["logit_difference"].of(function)


def _crossing(tokens, curve, level):
    return float(stats.crossing(np.asarray(tokens, float), np.asarray(curve, float), level))


def _emergence_cases() -> list[Case]:
    curves = {"a curve that rises steadily": ([1e5, 4e5, 16e5, 64e5], [0.1, 0.7, 2.3, 4.1]),
              "a curve that rises, falls back and rises again": ([1e5, 3e5, 9e5, 27e5, 81e5], [0.0, 2.6, 0.9, 2.9, 4.0]),
              "a curve whose last value is not its largest": ([2e5, 4e5, 8e5, 32e5], [-0.3, 0.8, 5.0, 2.2])}
    return [Case(f"{what}, share {share:g}", (tokens, curve, share), _crossing(tokens, curve, share * curve[-1]))
            for what, (tokens, curve) in curves.items() for share in (0.5, 0.9)]


def _interpolated(tokens, curve, share, i=None) -> float:
    level = share * curve[-1]
    i = next(j for j, value in enumerate(curve) if value >= level) if i is None else i
    part = (level - curve[i - 1]) / (curve[i] - curve[i - 1])
    return float(np.exp(np.log(tokens[i - 1]) + part * np.log(tokens[i] / tokens[i - 1])))


def _last_crossing(tokens, curve, share) -> float:
    below = [j for j, value in enumerate(curve) if value < share * curve[-1]]
    return _interpolated(tokens, curve, share, below[-1] + 1)


_register(
    "emergence", "When does an ability form?", ("tokens [checkpoint]", "curve [checkpoint]", "share"), _emergence_cases, (
        Mistake("You interpolate in tokens: the axis is logarithmic, so interpolate in the logarithm of the tokens.",
                lambda t, c, s: float(np.interp(s * c[-1], *zip(*[(c[i + j], t[i + j]) for i in [next(
                    k for k, v in enumerate(c) if v >= s * c[-1]) - 1] for j in (0, 1)])))),
        Mistake("You give the first checkpoint at or above the level: interpolate between it and the one before.",
                lambda t, c, s: t[next(i for i, v in enumerate(c) if v >= s * c[-1])]),
        Mistake("You give the last checkpoint below the level: interpolate between it and the one after.",
                lambda t, c, s: t[next(i for i, v in enumerate(c) if v >= s * c[-1]) - 1]),
        Mistake("You take the share of the largest value: the share of the last value is wanted.",
                lambda t, c, s: _crossing(t, c, s * max(c))),
        Mistake("You give the last time the curve crosses the level: the first one is wanted.", _last_crossing),
        Mistake("You take the share as the level itself: the level is the share times the last value.",
                lambda t, c, s: _crossing(t, c, s))),
    each=lambda tokens, curve, share: {"checkpoint": len(tokens)})


def check_emergence(function: Callable) -> Verdict:
    """function(tokens, curve, share) -> the tokens at which the curve first reaches `share` of its last value, interpolated in
    the logarithm of the tokens. tokens ascending, above 0; lists of numbers. Every curve starts below the level."""
    return CHECKS["emergence"].of(function)


# ------------------------------------------------------------------ circuits

EDGE_POINTS = 5


def edge_tensors(model, pairs, edge: str, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the score of one edge is made of: what its source writes on the clean and on the corrupted prompts, [n, pos, d] each,
    and dL/dx at its destination with the embeddings at the points t, [point, n, pos, d].

    From transformers' own network, by hooks. Sources: input, heads, MLPs; destinations: MLPs and logits.
    """
    net, (source, _, target) = model.network, edge.partition("->")
    body, kept = net.base_model, {}
    layer, head = (int(part.strip("amh")) for part in (source.split(".") + ["0"])[:2]) if source != "input" else (0, 0)
    norm = body.final_layer_norm if target == "logits" else body.layers[int(target[1:])].post_attention_layernorm

    def writes(tokens: torch.Tensor) -> torch.Tensor:
        if source == "input":
            return body.embed_in(tokens)
        block = body.layers[layer]
        place = block.mlp if source[0] == "m" else block.attention.dense
        hook = place.register_forward_hook(lambda _, inputs, output: kept.update(z=inputs[0], out=output))
        net(tokens, use_cache=False)
        hook.remove()
        columns = slice(head * model.shape.d_head, (head + 1) * model.shape.d_head)
        return kept["out"] if source[0] == "m" else kept["z"][..., columns] @ place.weight[:, columns].T

    def read(_, inputs):
        kept["x"] = inputs[0].detach().requires_grad_()
        # the value is x, the gradient is that of this destination alone
        kept["here"] = inputs[0] + (kept["x"] - kept["x"].detach())
        return (kept["here"],)

    with torch.no_grad():
        clean, corrupted = writes(pairs.clean), writes(pairs.corrupted)
        begin, end = body.embed_in(pairs.clean), body.embed_in(pairs.corrupted)
    gradients = []
    for point in t.tolist():
        hook = norm.register_forward_pre_hook(read)
        logits = net(inputs_embeds=begin + point * (end - begin), use_cache=False).logits
        hook.remove()
        loss = -pairs.metric(logits[torch.arange(len(pairs)), pairs.end]).sum()
        gradients.append(torch.autograd.grad(loss, kept["x"])[0])
    return clean.detach(), corrupted.detach(), torch.stack(gradients)


@cache
def _edge_cases() -> list[Case]:
    cases, model = [], _model("mini-xs")
    pairs = get_task("ioi").prompts(model.tokenizer, n=6, seed=3)
    t = (torch.arange(EDGE_POINTS, dtype=torch.float64) + 0.5) / EDGE_POINTS
    scores = attribute(model, pairs, rule="midpoint", points=EDGE_POINTS)
    largest = [edge for edge, score in scores.largest(scores.graph.n_edges) if not edge.endswith(">") and abs(score) > 1e-6]
    sort_of = lambda edge: edge.split("->")[0][0] + edge.split("->")[1][0]                # "im", from input to an MLP
    for edge in {sort_of(edge): edge for edge in reversed(largest)}.values():             # the largest of each sort
        cases.append(Case(f"{edge} of mini-xs", edge_tensors(model, pairs, edge, t), scores.of(edge)))
    return cases


def _products(a, b, g):
    """[point, n, pos, d] of (corrupted - clean) * gradient."""
    return (b - a)[None] * g


_register(
    "edge_score", "The score of one edge",
    ("a_clean [prompt, pos, d]", "a_corrupted [prompt, pos, d]", "gradients [point, prompt, pos, d]"), lambda: _edge_cases(), (
        Mistake("Your score has the wrong sign: it is (corrupted - clean) times the gradient of the loss; are clean and corrupted "
                "swapped?",
                lambda a, b, g: -_products(a, b, g).mean((0, 1)).sum()),
        Mistake("You sum over the prompts: take the mean, or the score grows with their number.",
                lambda a, b, g: _products(a, b, g).mean(0).sum()),
        Mistake("You sum over the interpolation points: take their mean, since they approximate an integral from 0 to 1.",
                lambda a, b, g: _products(a, b, g).mean(1).sum()),
        Mistake("You sum over prompts and over points: take the mean of both.", lambda a, b, g: _products(a, b, g).sum()),
        Mistake("You average over the positions: the score is the sum over them.",
                lambda a, b, g: _products(a, b, g).mean((0, 1, 2)).sum()),
        Mistake("You average over everything, components of the vectors too: the product of two vectors is a sum over "
                "components, and positions are summed.", lambda a, b, g: _products(a, b, g).mean()),
        Mistake("You use the gradient at the first point alone, nearly EAP: average it over all points.",
                lambda a, b, g: _products(a, b, g)[0].mean(0).sum()),
        Mistake("You use the gradient at the last point alone, near the corrupted prompt: average it over all points.",
                lambda a, b, g: _products(a, b, g)[-1].mean(0).sum()),
        Mistake("You use the last position alone: sum over all positions.",
                lambda a, b, g: _products(a, b, g)[:, :, -1].mean((0, 1)).sum()),
        Mistake("You leave out the clean output: the difference of the corrupted and the clean one is wanted.",
                lambda a, b, g: (b[None] * g).mean((0, 1)).sum()),
        Mistake("You take absolute values before summing: products of both signs belong to one score.",
                lambda a, b, g: _products(a, b, g).abs().mean((0, 1)).sum())),
    each=lambda a, b, g: {"prompt": len(a), "point": len(g)})


def check_edge_score(function: Callable) -> Verdict:
    """function(a_clean [prompt, pos, d], a_corrupted [prompt, pos, d], gradients [point, prompt, pos, d]) -> the EAP-IG score.

    a: what the edge's source writes; gradients: of the loss, with respect to what its destination reads, at each point."""
    return CHECKS["edge_score"].of(function)


def _faithfulness_cases() -> list[Case]:
    cases = []
    for about, n, kept, shift in (("six prompts, most is kept", 6, 0.8, -1.0), ("four prompts, little is kept", 4, 0.2, -0.5),
                                  ("three prompts, more than all is kept", 3, 1.2, -0.8), ("one prompt", 1, 0.6, 0.3)):
        clean, noise = 3 + _random(n, seed=n), _random(n, seed=n + 20)
        corrupted = shift * clean + 0.3 * noise
        circuit = corrupted + kept * (clean - corrupted) + 0.4 * _random(n, seed=n + 40)
        right = search.faithfulness(*(float(part.mean()) for part in (circuit, clean, corrupted)), "normalised")
        cases.append(Case(about, (circuit, clean, corrupted), right))
    return cases


_register(
    "faithfulness", "Normalised faithfulness", ("circuit [prompt]", "clean [prompt]", "corrupted [prompt]"),
    _faithfulness_cases, (
        Mistake("Your value is the ratio m / b: normalise it, by what is left when everything is corrupted.",
                lambda m, b, c: m.mean() / b.mean()),
        Mistake("You average a ratio of each prompt: take the means over the prompts first, then one ratio, since a prompt with "
                "a small difference would decide everything.", lambda m, b, c: ((m - c) / (b - c)).mean()),
        Mistake("You give what is lost: are clean and corrupted swapped? The full model gets 1, the corrupted prompts 0.",
                lambda m, b, c: (m - b).mean() / (c - b).mean()),
        Mistake("You subtract the corrupted metric above the line only: below it, too, or a perfect circuit does not get 1.",
                lambda m, b, c: (m - c).mean() / b.mean()),
        Mistake("You subtract the corrupted metric below the line only: above it, too, or the empty circuit does not get 0.",
                lambda m, b, c: m.mean() / (b - c).mean()),
        Mistake("You turned the fraction over: what the circuit keeps stands above the line.",
                lambda m, b, c: (b - c).mean() / (m - c).mean())),
    each=lambda circuit, clean, corrupted: {"prompt": len(circuit)})


def check_faithfulness(function: Callable) -> Verdict:
    """function(circuit [prompt], clean [prompt], corrupted [prompt]) -> normalised faithfulness, of the three metrics."""
    return CHECKS["faithfulness"].of(function)


def _dead_cases() -> list[Case]:
    graph, cases = Graph(3, 2), []
    circuits = {
        "a circuit in which every edge lives": "input->a0.h1<v> a0.h1->a1.h0<k> input->a1.h0<q> a1.h0->logits input->logits",
        "a head that nobody reads": "input->m0 m0->logits input->a0.h0<q> m0->a1.h1<v>",
        "a head that reads nothing": "input->m0 m0->logits a1.h0->logits a0.h1->m1 m1->logits",
        "chains of dead edges": "input->m0 m0->logits input->a0.h0<v> a0.h0->m1 m1->a2.h0<q> a0.h1->a1.h0<k> a1.h0->m2 "
                                "m2->logits",
        "no path at all": "input->a0.h0<q> m1->logits"}
    for about, text in circuits.items():
        edges = text.split()
        live = graph.live(circuit_of(graph, edges).mask)
        cases.append(Case(about, (edges,), frozenset(graph.edge_name(*edge) for edge in np.argwhere(live))))
    return cases


def _ends(edge: str) -> tuple[str, str]:
    source, target = edge.split("->")
    return source, target.split("<")[0]


def _reached(edges, start, forward: bool) -> set[str]:
    """Nodes that can be reached from `start`, or from which it can."""
    found, before = {start}, set()
    while found != before:
        before = set(found)
        for edge in edges:
            source, target = _ends(edge)
            if (source if forward else target) in found:
                found.add(target if forward else source)
    return found


def _fed(edges) -> list[str]:
    reached = _reached(edges, "input", True)
    return [edge for edge in edges if _ends(edge)[0] in reached]


def _leads(edges) -> list[str]:
    reached = _reached(edges, "logits", False)
    return [edge for edge in edges if _ends(edge)[1] in reached]


def _one_round(edges) -> list[str]:
    sources, targets = {_ends(edge)[0] for edge in edges}, {_ends(edge)[1] for edge in edges}
    return [edge for edge in edges if _ends(edge)[0] in targets | {"input"} and _ends(edge)[1] in sources | {"logits"}]


_register(
    "dead_edges", "Dead edges", ("edges",), _dead_cases, (
        Mistake("Nothing is pruned: an edge lives only if it lies on a path from input to logits.", lambda edges: edges),
        Mistake("You prune from below only: what input feeds, but logits never hears of, is dead too.", _fed),
        Mistake("You prune from above only: what leads to logits, but is fed by nothing, is dead too.", _leads),
        Mistake("You prune once: taking an edge out can leave another one dead, so repeat until nothing changes.", _one_round),
        Mistake("You take each input of a head for a node of its own: what reads its queries, keys or values feeds the whole "
                "head, so cut <q>, <k> and <v> off.", lambda edges: _leads(_fed([edge for edge in edges if "<" not in edge]))),
        Mistake("You give the dead edges: those that live are wanted.",
                lambda edges: set(edges) - set(_fed(edges)).intersection(_leads(edges)))),
    read=names)


def check_dead_edges(function: Callable) -> Verdict:
    """function(edges) -> the edges on a path from input to logits. edges: a list of names such as "a0.h1->a1.h0<q>"."""
    return CHECKS["dead_edges"].of(function)


# ------------------------------------------------------------------ circuits over training

def _jaccard_cases() -> list[Case]:
    graph = Graph(2, 4)
    some = [graph.edge_names[i] for i in np.random.default_rng(0).permutation(graph.n_edges)]
    sets = {"two circuits that share some edges": (some[:9], some[5:19]), "one circuit inside another": (some[:4], some[:11]),
            "a large and a small one": (some[2:14], some[:5]),
            "the same circuit twice": (some[:6], some[:6]), "two circuits without a shared edge": (some[:5], some[5:12]),
            "two empty circuits": ([], []), "a circuit and an empty one": (some[:7], [])}
    mask = lambda edges: circuit_of(graph, edges).mask
    return [Case(about, (set(a), set(b)), jaccard(mask(a), mask(b))) for about, (a, b) in sets.items()]


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


_register(
    "jaccard", "Jaccard similarity", ("a", "b"), _jaccard_cases, (
        Mistake("You divide by the size of the first circuit: that is the share that is kept; divide by the edges in either.",
                lambda a, b: _over(len(a & b), len(a))),
        Mistake("You divide by the size of the second circuit: that is the share that was there; divide by the edges in either.",
                lambda a, b: _over(len(a & b), len(b))),
        Mistake("You divide by the sum of both sizes: shared edges are counted twice then; divide by the edges in either.",
                lambda a, b: _over(len(a & b), len(a) + len(b))),
        Mistake("Your value is the Dice coefficient, twice the shared edges over both sizes: divide the shared edges by those in "
                "either.",
                lambda a, b: _over(2 * len(a & b), len(a) + len(b))),
        Mistake("You divide by the smaller circuit: then a circuit inside a larger one gets 1; divide by the edges in either.",
                lambda a, b: _over(len(a & b), min(len(a), len(b)))),
        Mistake("You divide by the larger circuit: divide by the edges in either.",
                lambda a, b: _over(len(a & b), max(len(a), len(b)))),
        Mistake("Your value is the distance: one less the similarity; equal circuits should get 1.",
                lambda a, b: 1 - _over(len(a & b), len(a | b))),
        Mistake("You count the shared edges: divide by the edges in either.", lambda a, b: len(a & b))))


def check_jaccard(function: Callable) -> Verdict:
    """function(a, b) -> the Jaccard similarity of two circuits, sets of edge names; 0 if both are empty."""
    return CHECKS["jaccard"].of(function)


# ------------------------------------------------------------------ components

@cache
def _induction_cases() -> list[Case]:
    cases = []
    for name, length in (("mini-xs", 8), ("mini-s", 6)):
        model = _model(name)
        net, tokens = network_of(model), heads.repeated_sequences(model, 4, length, seed=1)
        runs = run(net, net.embed(tokens)[:, None])
        patterns = torch.cat([attention_pattern(one.q, one.k, net.scale)[:, 0] for one in runs], 1).detach()
        scores = heads.repeat_scores(net, tokens, length)
        for kind in ("induction", "previous"):
            row = int(scores[kind].mean(1).argmax())
            layer, head = divmod(row, model.shape.n_heads)
            cases.append(Case(f"head {layer}.{head} of {name}, {length} words said twice", (patterns[:, row], length),
                              float(scores["induction"][row].mean())))
    return cases


def _along(pattern: torch.Tensor, offset: int) -> torch.Tensor:
    """[sequence, entries]: attention to the token `offset` places back, from all positions that have one."""
    return pattern.diagonal(-offset, 1, 2)


_register(
    "induction_score", "The induction score", ("pattern [sequence, to, from]", "length"), lambda: _induction_cases(), (
        Mistake("You measure the attention to the same token, the duplicate-token score: look at the one after it.",
                lambda p, length: _along(p, length).mean()),
        Mistake("You measure the attention to the token before, the previous-token score: look at the token after the earlier copy.",
                lambda p, length: _along(p, 1).mean()),
        Mistake("You look at the token before the earlier copy: the one after it is wanted.",
                lambda p, length: _along(p, length + 1).mean()),
        Mistake("Rows and columns are swapped: rows are the tokens that look, columns those that are looked at.",
                lambda p, length: _along(p.transpose(1, 2), length - 1)[:, 1:].mean()),
        Mistake("You sum along the diagonal: take the mean over the tokens of the second half, and over the sequences.",
                lambda p, length: _along(p, length - 1)[:, 1:].sum(1).mean()),
        Mistake("You sum over the sequences: take the mean over them, too.",
                lambda p, length: _along(p, length - 1)[:, 1:].mean(1).sum()),
        Mistake("You divide by all positions of the line: only the tokens of the second half have an earlier copy.",
                lambda p, length: _along(p, length - 1)[:, 1:].sum() / (2 * length * len(p))),
        Mistake("You count the last token of the first half, which has no earlier copy: begin with the second half (the authors' "
                "code counts it too).", lambda p, length: _along(p, length - 1).mean()),
        Mistake("You use the first sequence alone: average over all of them.",
                lambda p, length: _along(p, length - 1)[0, 1:].mean())),
    each=lambda pattern, length: {"sequence": len(pattern), "token of the second half": length})


def check_induction_score(function: Callable) -> Verdict:
    """function(pattern [sequence, to, from], length) -> one head's induction score, on random words said twice.

    The lines have 2 * length tokens; row i of a pattern is how much token i looks at each token."""
    return CHECKS["induction_score"].of(function)


@cache
def _copy_cases() -> list[Case]:
    model = _model("mini-m")
    net, pairs = network_of(model), get_task("ioi").prompts(model.tokenizer, n=12, seed=1)
    places = torch.stack([pairs.positions[place] for place in ("IO", "S1", "S2")], 1)
    b = torch.arange(len(pairs))[:, None]
    stream = next(iter(run(net, net.embed(pairs.clean)[:, None]))).out[:, 0][b, places]
    unembed = heads.folded_unembedding(net, torch.float64)
    raised, lowered = (hits.mean(1) for hits in heads.copy_hits(net, pairs.clean, places))
    # the heads whose score is least decided, and the one that lowers names most
    rows = [*(raised - 0.5).abs().argsort()[:3].tolist(), int(lowered.argmax())]
    cases = []
    for row in rows:
        layer, head = divmod(row, model.shape.n_heads)
        written = heads._written_without_attention(net.layers[layer], stream, True, torch.float64)[:, :, head]
        inputs = (written.detach(), unembed, pairs.clean[b, places])
        cases.append(Case(f"head {layer}.{head} of mini-m", inputs, float(raised[row])))
    return cases


def _best(written, unembed, k=heads.TOP, sign=1):
    return (sign * written @ unembed.T).topk(k, -1).indices


_register(
    "copy_score", "The copy score", ("written [prompt, 3, d]", "unembedding [token, d]", "names [prompt, 3]"),
    lambda: _copy_cases(), (
        Mistake("You count only the single highest token: a name counts if it is among the five highest.",
                lambda w, u, n: (_best(w, u, 1) == n[..., None]).any(-1).double().mean()),
        Mistake("You count the five lowest tokens, the negative copy score: the five highest are wanted.",
                lambda w, u, n: (_best(w, u, sign=-1) == n[..., None]).any(-1).double().mean()),
        Mistake("You count any name of the prompt: at each place, the name that stands there is wanted.",
                lambda w, u, n: (_best(w, u)[:, :, :, None] == n[:, None, None, :]).any(-1).any(-1).double().mean()),
        Mistake("You count a prompt if one of its three places hits: take the share of all places.",
                lambda w, u, n: (_best(w, u) == n[..., None]).any(-1).any(-1).double().mean()),
        Mistake("You count a prompt only if all three places hit: take the share of all places.",
                lambda w, u, n: (_best(w, u) == n[..., None]).any(-1).all(-1).double().mean()),
        Mistake("You count how often the name's logit is raised at all: it must be among the five highest tokens.",
                lambda w, u, n: ((w @ u.T).gather(-1, n[..., None]) > 0).double().mean()),
        Mistake("You give a number of hits: divide by the number of places.",
                lambda w, u, n: (_best(w, u) == n[..., None]).any(-1).double().sum()),
        Mistake("You divide by the prompts alone: each prompt has three places.",
                lambda w, u, n: (_best(w, u) == n[..., None]).any(-1).double().sum() / len(n))),
    each=lambda written, unembedding, names: {"prompt": len(written)})


def check_copy_score(function: Callable) -> Verdict:
    """function(written [prompt, 3, d], unembedding [token, d], names [prompt, 3]) -> one head's copy score.

    written: what the head would write if it looked at the name of each place alone; the score is the share of the places whose
    name is among the five tokens with the highest logit."""
    return CHECKS["copy_score"].of(function)


# ------------------------------------------------------------------ after formation

def _balance_cases() -> list[Case]:
    wave = torch.linspace(0, 2, 7, dtype=torch.float64).sin()[:, None]
    tables = {"three heads that change independently": 0.3 * _random(9, 3, seed=1),
              "two heads that take turns": torch.cat([wave, 1 - 0.8 * wave], 1),
              "four heads that rise together": wave * torch.tensor([1.0, 0.6, 0.9, 0.4], dtype=torch.float64)}
    return [Case(about, (table,), formation.balance(pd.DataFrame(table.numpy()))) for about, table in tables.items()]


def _var(x, dim=0):
    return x.var(dim, unbiased=False)


_register(
    "balance", "Load balancing", ("scores [checkpoint, head]",), _balance_cases, (
        Mistake("You turned the fraction over: the variance of the sum stands above the line.",
                lambda x: _var(x).sum() / _var(x.sum(1))),
        Mistake("You take variances over the heads: how the scores change over the checkpoints is wanted.",
                lambda x: _var(x.sum(0)) / _var(x, 1).sum()),
        Mistake("You use standard deviations: variances are wanted, since only they add up for what is independent.",
                lambda x: _var(x.sum(1)).sqrt() / _var(x).sqrt().sum()),
        Mistake("You take the mean of the heads' variances: divide by their sum.",
                lambda x: _var(x.sum(1)) / _var(x).mean()),
        Mistake("You take the variance of the heads' mean: that of their sum is wanted.",
                lambda x: _var(x.mean(1)) / _var(x).sum()),
        Mistake("You give the variance of the sum alone: divide by the sum of the heads' variances.",
                lambda x: _var(x.sum(1)))),
    each=lambda scores: {"checkpoint": len(scores), "head": scores.shape[1]})


def check_balance(function: Callable) -> Verdict:
    """function(scores [checkpoint, head]) -> the variance of the heads' sum over checkpoints, over the sum of their variances."""
    return CHECKS["balance"].of(function)


@cache
def _repair_cases() -> list[Case]:
    cases = []
    for name, how, n in (("mini-m", "zero", 7), ("mini-s", "resample", 5), ("mini-xs", "zero", 9)):
        model = _model(name)
        pairs = get_task("ioi").prompts(model.tokenizer, n=n, seed=2)
        direct = patching.ablate(model, pairs, [], how).direct_before.mean(-1)
        head = divmod(int(direct.argmax()), model.shape.n_heads)                # the one that writes most
        done = patching.ablate(model, pairs, [head], how)
        wrote = done.before - done.expected
        cases.append(Case(f"head {head[0]}.{head[1]} of {name} taken out ({how}), {n} prompts", (done.before, done.after, wrote),
                          float(done.compensation.mean() / wrote.mean())))
    return cases


_register(
    "self_repair", "Self-repair", ("before [prompt]", "after [prompt]", "wrote [prompt]"), lambda: _repair_cases(), (
        Mistake("Your share has the wrong sign: where less is lost than the head wrote, something was repaired, and the share is "
                "positive.",
                lambda b, a, w: -(a - (b - w)).mean() / w.mean()),
        Mistake("You give the share that is lost: what is repaired is the rest, one less that.",
                lambda b, a, w: (b - a).mean() / w.mean()),
        Mistake("You divide by the metric before: divide by what the head wrote, which is all that can be repaired.",
                lambda b, a, w: (a - (b - w)).mean() / b.mean()),
        Mistake("You average a share of each prompt: take the means over the prompts first, since a head may write next to "
                "nothing on one.",
                lambda b, a, w: ((a - (b - w)) / w).mean()),
        Mistake("You give logits: divide by what the head wrote, to have a share.", lambda b, a, w: (a - (b - w)).mean()),
        Mistake("You give what is left of the metric, after over before: compare what is lost with what the head wrote.",
                lambda b, a, w: a.mean() / b.mean())),
    each=lambda before, after, wrote: {"prompt": len(before)})


def check_self_repair(function: Callable) -> Verdict:
    """function(before [prompt], after [prompt], wrote [prompt]) -> the share of what the head wrote that is repaired.

    before, after: the metric before and after a head is taken out; wrote: what the head itself wrote to it."""
    return CHECKS["self_repair"].of(function)


# ------------------------------------------------------------------ the algorithm

def _effect_cases() -> list[Case]:
    cases = []
    for about, n, part in (("a head that helps, 5 prompts", 5, 0.4), ("a head that harms, 4 prompts", 4, -0.2),
                           ("a head that does all, 6 prompts", 6, 1.0)):
        clean, corrupted = 3 + _random(n, seed=n), -2 + _random(n, seed=n + 9)
        patched = clean - part * (clean - corrupted) + 0.2 * _random(n, seed=n + 18)
        right = float(_anatomy(patched[None], clean, corrupted).effects("direct")[0])
        cases.append(Case(about, (patched, clean, corrupted), right))
    return cases


def _anatomy(patched, clean, corrupted, members=None, inside=None, least=0.0) -> algorithm.Anatomy:
    n = len(patched)
    rows = {name: np.zeros(n, bool) for name in algorithm.CLASSES}
    rows |= {} if members is None else {"name mover": members.numpy()}
    return algorithm.Anatomy("", 0, 0, n, clean.numpy(), corrupted.numpy(), {"direct": patched.numpy()}, rows,
                             np.ones(n, bool) if inside is None else inside.numpy(), {}, np.full((n, 3), np.nan), least, {})


_register(
    "effect", "The effect of a head", ("patched [prompt]", "clean [prompt]", "corrupted [prompt]"), _effect_cases, (
        Mistake("Your effect has the wrong sign: patched less clean, so that a head that helps is negative.",
                lambda p, c, x: (c - p).mean() / (c - x).mean()),
        Mistake("You divide by the clean metric: divide by clean less corrupted, all that there is to lose.",
                lambda p, c, x: (p - c).mean() / c.mean()),
        Mistake("You average a ratio of each prompt: take the means over the prompts first.",
                lambda p, c, x: ((p - c) / (c - x)).mean()),
        Mistake("You compare with the corrupted metric: the change from the clean one is wanted.",
                lambda p, c, x: (p - x).mean() / (c - x).mean()),
        Mistake("You give logits: divide by clean less corrupted.", lambda p, c, x: (p - c).mean())),
    each=lambda patched, clean, corrupted: {"prompt": len(patched)})


def check_effect(function: Callable) -> Verdict:
    """function(patched [prompt], clean [prompt], corrupted [prompt]) -> the effect e(h) of a head on the mean logit difference."""
    return CHECKS["effect"].of(function)


def _share_cases() -> list[Case]:
    cases = []
    for about, e, members, inside in (
            ("five heads, one of them not in the circuit", [-0.5, 0.1, -0.2, -0.4, 0.05], [1, 0, 1, 1, 0], [1, 1, 1, 0, 1]),
            ("four heads, one of which harms", [-0.6, 0.3, -0.25, -0.1], [1, 1, 0, 0], [1, 1, 1, 0]),
            ("three heads, none in a class", [-0.6, 0.3, -0.2], [0, 0, 0], [1, 1, 1])):
        effects, members, inside = torch.tensor(e, dtype=torch.float64), torch.tensor(members) > 0, torch.tensor(inside) > 0
        clean, corrupted = torch.full((2,), 3.0, dtype=torch.float64), torch.full((2,), -2.0, dtype=torch.float64)
        anatomy = _anatomy(clean + effects[:, None] * 5, clean, corrupted, members, inside)
        cases.append(Case(about, (effects, members, inside), float(anatomy.share("direct"))))
    return cases


_register(
    "class_share", "What the classes explain", ("effects [head]", "in_class [head]", "in_circuit [head]"), _share_cases, (
        Mistake("You sum effects with their signs: heads that help and heads that harm cancel then; sum absolute values.",
                lambda e, c, i: e[c & i].sum() / e[i].sum()),
        Mistake("You sum over all heads: only heads in the circuit count, above and below the line.",
                lambda e, c, i: e[c].abs().sum() / e.abs().sum()),
        Mistake("You count heads outside the circuit above the line: only heads in the circuit count there, too.",
                lambda e, c, i: e[c].abs().sum() / e[i].abs().sum()),
        Mistake("You count heads outside the circuit below the line: only heads in the circuit count there, too.",
                lambda e, c, i: e[c & i].abs().sum() / e.abs().sum()),
        Mistake("You count heads: the share is of their effects.",
                lambda e, c, i: (c & i).double().sum() / i.double().sum()),
        Mistake("You divide mean effects: divide sums, or the number of heads drops out.",
                lambda e, c, i: e[c & i].abs().sum() / max(int((c & i).sum()), 1) / e[i].abs().mean()),
        Mistake("You give the share that the classes do not explain: one less that is wanted.",
                lambda e, c, i: 1 - e[c & i].abs().sum() / e[i].abs().sum())),
    each=lambda effects, in_class, in_circuit: {"head": len(effects)})


def check_class_share(function: Callable) -> Verdict:
    """function(effects [head], in_class [head], in_circuit [head]) -> the share of the absolute effects of the heads in the
    circuit that heads in a class make. The last two are true or false for each head."""
    return CHECKS["class_share"].of(function)


# ------------------------------------------------------------------ stability

def _weighted_cases() -> list[Case]:
    graph, cases = Graph(2, 2), []
    rng = np.random.default_rng(4)
    for about, sizes, scale in (("two circuits with scores of both signs", (12, 15), (1.0, 1.0)),
                                ("one with scores ten times as large", (9, 12), (1.0, 10.0)),
                                ("two circuits that share few edges", (5, 6), (2.0, 1.0))):
        parts = []
        for size, factor in zip(sizes, scale):
            scores = np.zeros(graph.mask.shape)
            for src, dst in graph.edges[rng.permutation(graph.n_edges)[:size]]:
                scores[src, dst] = factor * rng.normal()
            parts.append(torch.tensor(scores))
        cases.append(Case(about, tuple(parts), stability.weighted_jaccard(*(part.numpy() for part in parts))))
    same = cases[0].inputs[0]
    return [*cases, Case("the same circuit twice", (same, same.clone()), stability.weighted_jaccard(same.numpy(), same.numpy()))]


def _shares(x):
    return x.abs() / x.abs().sum()


def _alike(a, b):
    return torch.minimum(a, b).sum() / torch.maximum(a, b).sum()


_register(
    "weighted_jaccard", "Weighted similarity", ("a [source, destination]", "b [source, destination]"), _weighted_cases, (
        Mistake("You do not normalise: each circuit's absolute scores should sum to 1, or the larger scale decides.",
                lambda a, b: _alike(a.abs(), b.abs())),
        Mistake("You ignore the scores: that is the plain Jaccard similarity.",
                lambda a, b: ((a != 0) & (b != 0)).sum() / ((a != 0) | (b != 0)).sum()),
        Mistake("You leave out the absolute values: the size of a score counts, not its sign.",
                lambda a, b: _alike(a / a.sum(), b / b.sum())),
        Mistake("You divide each circuit by its largest score: by the sum of its absolute scores is wanted.",
                lambda a, b: _alike(a.abs() / a.abs().max(), b.abs() / b.abs().max())),
        Mistake("You give the sum of the minima alone: divide by the sum of the maxima.",
                lambda a, b: torch.minimum(_shares(a), _shares(b)).sum()),
        Mistake("You average minimum over maximum edge by edge: sum all minima, and divide by the sum of all maxima.",
                lambda a, b: (torch.minimum(_shares(a), _shares(b)) / torch.maximum(_shares(a), _shares(b)))[
                    (a != 0) | (b != 0)].mean())))


def check_weighted_jaccard(function: Callable) -> Verdict:
    """function(a [source, destination], b [source, destination]) -> the weighted similarity of two circuits' scores."""
    return CHECKS["weighted_jaccard"].of(function)


def _ewma_cases() -> list[Case]:
    values = {"six values": [0.9, 0.4, 0.7, 0.1, 0.8, 0.6], "three values": [0.2, 1.0, 0.5], "one value": [0.7]}
    return [Case(f"{about}, alpha {alpha:g}", (x, alpha), stability.ewma(x, alpha)) for about, x in values.items()
            for alpha in (0.5, 0.2)]


_register(
    "ewma", "A moving average", ("values", "alpha"), _ewma_cases, (
        Mistake("alpha weighs the past: it is the weight of the new value, and 1 - alpha that of the average so far.",
                lambda x, alpha: stability.ewma(x, 1 - alpha)),
        Mistake("You start from 0: the first average is the first value itself.",
                lambda x, alpha: stability.ewma(x, alpha, start=0.0)),
        Mistake("Your weights are made to sum to 1 at each point, which is pandas' default (adjust=True): the recursion is wanted.",
                lambda x, alpha: pd.Series(x).ewm(alpha=alpha, adjust=True).mean().to_numpy()),
        Mistake("You mix each value with the one before it: mix it with the average so far.",
                lambda x, alpha: np.array([x[0], *(alpha * b + (1 - alpha) * a for a, b in zip(x, x[1:]))])),
        Mistake("Your value is the mean so far: old values should count less and less.",
                lambda x, alpha: np.cumsum(x) / np.arange(1, len(x) + 1))),
    read=series)


def check_ewma(function: Callable) -> Verdict:
    """function(values, alpha) -> the exponentially weighted moving average after each value: s_0 = x_0, then
    s_t = alpha x_t + (1 - alpha) s_{t-1}."""
    return CHECKS["ewma"].of(function)
