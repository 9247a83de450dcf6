"""Does IOI stay the same computation while its heads change? The paper's test, and three that could fail more easily.

The test (Tigges et al. 2024, section 4.2, Figure 4). Heads are put into classes by what they do, not by where they are, in
three stages, each found by path patching from the one before:

    direct      what heads write to the logits: name movers, copy suppression, and their negatives
    steering    what heads do to the queries of those, that is to where they look: S-inhibition
    tertiary    what heads do to the values of S-inhibition heads, that is to what these know: induction, duplicate token

At each checkpoint, how much of a stage's effect do its classes explain? If the shares stay while the heads in the classes
change, it is the same algorithm in other places. An effect is the authors' e(h) = (patched - clean) / (clean - corrupted),
of the mean logit difference: 0 where the head does not matter, -1 where without it the answer is as bad as the corrupted one.

Besides: shares of random heads (`null_shares`); what is left when all that the algorithm calls irrelevant is resampled
(`scrub_masks`). A circuit, or its pattern of classes, put to another checkpoint: `transfer`. The other tasks: `readers`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from . import attribution, lexicon, model as model_module, network, patching
from .graph import Graph, graph_of
from .heads import HeadScores, attention_from_end, heads_key
from .model import Model
from .network import network_of
from .over_training import Found, circuit_key, measure_masks
from .patching import Head, all_heads, baselines, head_name, path_patch
from .recipes import AlgorithmSettings, Recipe, get_recipe
from .search import faithfulness
from .stats import bootstrap_draws, interval
from .store import Store, measurement_key
from .suites import Suite
from .tasks import base, get_task, ioi
from .tasks.base import PromptPairs

STAGES = {"direct": ("name mover", "copy suppression", "negative name mover", "negative copy suppression"),
          "steering": ("S-inhibition",), "tertiary": ("induction", "duplicate token")}
CLASSES = tuple(name for names in STAGES.values() for name in names)          # a head that is several is drawn as the first
PANELS = {"direct": "B", "steering": "C", "tertiary": "D"}                    # of Figure 4
CLAIMED = {"direct": 0.7, "steering": 0.5, "tertiary": 0.5}                   # the paper: "above" this, at all checkpoints
FORMS = {"absolute": "absolute effects of heads in the circuit", "signed": "signed effects of heads in the circuit",
         "all heads": "absolute effects of all heads"}
PLACES = ("IO", "S1", "S2")
SIGNALS = {"swap": "who the subject is, and where", "order": "where the subject stood", "token": "who the subject is"}
_CODE = (attribution, network, patching, lexicon, model_module, base, ioi, attention_from_end)


# ------------------------------------------------------------------ one checkpoint taken apart

@dataclass(frozen=True, eq=False)
class Anatomy:
    """The IOI algorithm at one checkpoint. Rows are heads (layer * n_heads + head); see the module for stages.

    `patched`: {stage: [head, n]} metric of each prompt with that head patched into the stage's receivers; a stage that has
    no receivers is not there, and `why` says so. `classes`: {class: bool [head]}. `in_circuit` bool [head]: sources of an
    edge in the circuit. `signals` [head, 3]: effect on the stage "steering" of each of `SIGNALS`, at END; nan without.
    """

    model: str
    step: int
    tokens_seen: int
    n_heads: int                                       # per layer
    clean: np.ndarray                                  # [n]
    corrupted: np.ndarray
    patched: dict[str, np.ndarray]
    classes: dict[str, np.ndarray]
    in_circuit: np.ndarray
    receivers: dict[str, list[Head]]
    signals: np.ndarray
    least: float                                       # a stage whose largest effect is below this explains nothing
    why: dict[str, str]

    @property
    def heads(self) -> list[Head]:
        return [divmod(row, self.n_heads) for row in range(len(self.in_circuit))]

    def effects(self, stage: str, weights: np.ndarray | None = None) -> np.ndarray:
        """e(h), float64 [head]; with `weights` [draws, n] (see `stats.bootstrap_draws`) [draws, head]."""
        mean = (lambda a: a.mean(-1)) if weights is None else (lambda a: weights @ a.T)
        clean, corrupted = mean(self.clean[None]), mean(self.corrupted[None])
        return (mean(self.patched[stage]) - clean) / (clean - corrupted)

    def members(self, stage: str) -> np.ndarray:
        """bool [head]: in one of the stage's classes."""
        return np.any([self.classes[name] for name in STAGES[stage]], axis=0)

    def counted(self, stage: str, form: str = "absolute") -> np.ndarray | None:
        """bool [head] whose effects are summed up, or None where there is nothing to share: no receivers, no circuit, or
        no head that matters."""
        if stage not in self.patched:
            return None
        nodes = np.ones_like(self.in_circuit) if form == "all heads" else self.in_circuit
        matter = np.abs(self.effects(stage)[nodes])
        return nodes if matter.size and matter.max() > self.least else None

    def share(self, stage: str, form: str = "absolute", weights: np.ndarray | None = None,
              members: np.ndarray | None = None) -> np.ndarray | float:
        """Share of the stage's effect that its classes explain, [] or [draws]; nan where there is nothing to share.

        form, see `FORMS`: sum of |e(h)| (or of e(h), "signed") over classified heads, over that of all heads that count.
        The authors' function for it could not be read; "absolute" is our reading. `members`: other heads than the classes'.
        """
        if form not in FORMS:
            raise ValueError(f"unknown form of share {form!r}; there are: {', '.join(FORMS)}")
        nodes = self.counted(stage, form)
        if nodes is None:
            return np.nan if weights is None else np.full(len(weights), np.nan)
        effects = self.effects(stage, weights)
        effects = effects if form == "signed" else np.abs(effects)
        inside = nodes & (self.members(stage) if members is None else members)
        with np.errstate(divide="ignore", invalid="ignore"):
            return effects[..., inside].sum(-1) / effects[..., nodes].sum(-1)

    def null_shares(self, stage: str, form: str = "absolute", draws: int = 2000, seed: int = 0) -> np.ndarray:
        """The same share, [draws], of as many heads drawn at random among those that count; their mean is k of n for the
        absolute forms. Empty where there is no share."""
        nodes = self.counted(stage, form)
        if nodes is None:
            return np.empty(0)
        rows, rng = nodes.nonzero()[0], np.random.default_rng(seed)
        effects = self.effects(stage)[rows]
        effects = effects if form == "signed" else np.abs(effects)
        k = int((nodes & self.members(stage)).sum())
        picked = rng.permuted(np.tile(np.arange(len(rows)) < k, (draws, 1)), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return (picked * effects).sum(1) / effects.sum()

    def role(self, row: int) -> str | None:
        """The first class, in the order of `CLASSES`, that this head is in."""
        return next((name for name in CLASSES if self.classes[name][row]), None)

    @cached_property
    def labels(self) -> list[frozenset[str]]:
        """The classes of each head; empty for a head in none."""
        return [frozenset(name for name in CLASSES if self.classes[name][row]) for row in range(len(self.in_circuit))]


def direct_classes(scores: HeadScores, settings: AlgorithmSettings) -> dict[str, np.ndarray]:
    """The classes of the stage "direct", {class: bool [head]}, by score and sign of the direct effect (negative helps)."""
    effect, bar = scores.score("direct"), settings.direct_bar
    copies, lowers = (scores.score(kind) > settings.copy_bar for kind in ("copy", "negative_copy"))
    suppresses = np.nan_to_num(scores.score("copy_suppression"), nan=-np.inf) > settings.suppression_bar
    return {"name mover": copies & (effect < -bar), "copy suppression": suppresses & (effect < -bar),
            "negative name mover": lowers & (np.abs(effect) > bar), "negative copy suppression": suppresses & (effect > bar)}


@torch.no_grad()
def dissect(model: Model, scores: HeadScores, mask: np.ndarray, settings: AlgorithmSettings, n: int,
            seed: int = 42) -> dict[str, np.ndarray]:
    """What `Anatomy` needs of a checkpoint beyond its head scores; `mask` is its IOI circuit, bool [src, dst].

    Stage "steering": receivers are the queries of all name movers, or ("direct" in the settings, as the caption of Figure 4
    has it) of all heads of the stage before that help. A head is S-inhibition if its effect through them is below
    -through_bar, if (in `paper`) the circuit has an edge from it to such a query, and if the signal named in the settings,
    patched at END, lowers the logit difference and turns them away from what they should look at (see `turned_away`).
    Stage "tertiary": receivers are the values of S-inhibition heads that are not copy suppression. A head is of a class if
    its effect is below -through_bar and its induction (duplicate-token) score above the mean of all heads.
    """
    out: dict[str, np.ndarray] = {f"class.{name}": found for name, found in direct_classes(scores, settings).items()}
    everyone, names = all_heads(model), {}
    none = np.zeros(len(everyone), bool)
    helps = scores.score("direct") < -settings.direct_bar
    first = out["class.name mover"]
    if settings.receivers == "direct":
        first = np.any([out[f"class.{name}"] for name in STAGES["direct"]], axis=0) & helps
    pairs = get_task("ioi").prompts(model.tokenizer, n=n, seed=seed)
    clean, corrupted = (part.double().mean().item() for part in baselines(model, pairs))
    effect = lambda metric: (metric.double().mean(1).numpy() - clean) / (clean - corrupted)

    inhibits = none
    if first.any():
        rows = first.nonzero()[0]
        names["q"] = [everyone[row] for row in rows]
        receivers = [f"{head_name(head)}<q>" for head in names["q"]]
        patched = path_patch(model, pairs, everyone, receivers).metric
        out["patched.steering"] = patched.double().numpy()
        before = looks(model, pairs, rows)                                                     # [receiver, place]
        signals, wrong = [], None
        for signal in SIGNALS:
            moved = get_task("ioi").prompts(model.tokenizer, n=n, seed=seed, corruption=signal)
            through = path_patch(model, moved, everyone, receivers, sender_at="END", receiver_at="END", watch=names["q"],
                                 places=PLACES)
            signals.append(effect(through.metric))
            if signal == settings.signal:
                turned = through.attention.double().mean(3).numpy() - before                   # [head, receiver, place]
                wrong = (signals[-1] < 0) & turned_away(turned, out["class.name mover"][rows])
        out["signals"] = np.stack(signals, 1)
        candidates = effect(patched) < -settings.through_bar
        if settings.needs_edge:
            graph = graph_of(model)
            columns = [graph.destination(layer, head, "q") for layer, head in names["q"]]
            candidates &= np.array([mask[graph.source(*head), columns].any() for head in everyone])
        inhibits = candidates & wrong
    out["class.S-inhibition"] = inhibits

    second = inhibits & ~(out["class.copy suppression"] | out["class.negative copy suppression"])
    out["class.induction"] = out["class.duplicate token"] = none
    if second.any():
        names["v"] = [everyone[row] for row in second.nonzero()[0]]
        patched = path_patch(model, pairs, everyone, [f"{head_name(head)}<v>" for head in names["v"]]).metric
        out["patched.tertiary"] = patched.double().numpy()
        for name, kind in (("induction", "induction"), ("duplicate token", "duplicate")):
            score = scores.score(kind)
            out[f"class.{name}"] = (effect(patched) < -settings.through_bar) & (score > score.mean())
    out |= {f"receivers.{kind}": np.array(found) for kind, found in names.items()}
    return {name: np.asarray(array) for name, array in out.items()}


def looks(model: Model, pairs: PromptPairs, rows: np.ndarray) -> np.ndarray:
    """Mean attention from END of these heads to `PLACES`, float64 [head, place]."""
    looked = attention_from_end(network_of(model), pairs, PLACES)
    return torch.stack([looked[place][rows].double().mean(1) for place in PLACES], 1).cpu().numpy()


def turned_away(turned: np.ndarray, movers: np.ndarray) -> np.ndarray:
    """bool [head]: turned [head, receiver, place], the change of the receivers' attention, is for the worse.

    Name movers (bool [receiver]) should look at IO: worse is less at IO and more at S1. The others lower what they look at and
    should look at the subject: worse is less at S1 and S2. Summed over either group; the group that is turned most decides.
    """
    io, s1, s2 = (turned[:, :, i] for i in range(3))
    to_io, to_s1, subject = io[:, movers].sum(1), s1[:, movers].sum(1), (s1 + s2)[:, ~movers].sum(1)
    return np.where(np.abs(to_io) >= np.abs(subject), (to_io < 0) & (to_s1 > 0), subject < 0)


def measure_anatomy(suite: Suite, found: Sequence[HeadScores], circuits: Sequence[Found], store: Store,
                    recipe: Recipe | str = "robust", device: str = "cpu", dtype: torch.dtype = torch.float32,
                    text: str | None = None, progress: bool = True) -> list[Anatomy]:
    """The algorithm at each checkpoint of `found` (head scores) whose IOI circuit was looked for, by the same recipe.

    A checkpoint that does not do IOI has no classes: a share of no effect means nothing.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    settings, n = recipe.algorithm, recipe.heads.prompts
    of = {(one.model, one.step): one for one in circuits if one.task == "ioi"}
    out = []
    for scores in tqdm([one for one in found if (one.model, one.step) in of], desc="algorithm", unit="checkpoint",
                       disable=not progress):
        circuit = of[scores.model, scores.step].circuit
        size = len(scores.heads)
        arrays: dict[str, np.ndarray] = {}
        if scores.does_ioi:
            checkpoint = suite.checkpoint(scores.model, scores.step)
            key = measurement_key("algorithm", code=(*_CODE, direct_classes, dissect, looks, turned_away), settings=dataclasses.asdict(settings),
                                  scores=heads_key(checkpoint, recipe, dtype, text).digest,
                                  circuit=circuit_key(checkpoint, "ioi", recipe, dtype).digest)
            measured = lambda: dissect(checkpoint.load(device=device, dtype=dtype), scores, circuit.mask, settings, n, recipe.seed)
            arrays = store.arrays(key, measured)
        part = lambda prefix: {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
        classes = part("class.") or {name: np.zeros(size, bool) for name in CLASSES}
        graph = circuit.graph
        rows = [graph.source(*head) for head in scores.heads]
        patched = ({"direct": scores.arrays["direct"].astype(float)} if scores.does_ioi else {}) | part("patched.")
        out.append(Anatomy(
            scores.model, scores.step, scores.tokens_seen, scores.n_heads, scores.arrays["clean"].astype(float),
            scores.arrays["corrupted"].astype(float), patched, {name: a.astype(bool) for name, a in classes.items()},
            circuit.mask.any(1)[rows], {kind: [tuple(map(int, head)) for head in a] for kind, a in part("receivers.").items()},
            arrays.get("signals", np.full((size, len(SIGNALS)), np.nan)), settings.least, _why(scores, patched, settings)))
    return out


def _why(scores: HeadScores, patched: Mapping, settings: AlgorithmSettings) -> dict[str, str]:
    if not scores.does_ioi:
        return dict.fromkeys(STAGES, "the model does not do IOI here")
    who = "no name mover" if settings.receivers == "movers" else "no head of the classes before helps"
    missing = {"steering": who, "tertiary": "no S-inhibition head"}
    return {stage: why for stage, why in missing.items() if stage not in patched}


def share_table(anatomies: Sequence[Anatomy], forms: Sequence[str] = tuple(FORMS), draws: int = 1000) -> pd.DataFrame:
    """One row per checkpoint, stage and form: model, step, tokens_seen, stage, form, share with low and high (95 % over
    prompts), null with null_low and null_high (random heads, as many), members (k) of nodes, `beats` (the share of random
    draws that explain less), and why there is no share."""
    rows = []
    for one in anatomies:
        weights = bootstrap_draws(len(one.clean), draws)
        for stage in STAGES:
            for form in forms:
                nodes, share = one.counted(stage, form), float(one.share(stage, form))
                row = {"model": one.model, "step": one.step, "tokens_seen": one.tokens_seen, "stage": stage, "form": form,
                       "share": share, "nodes": 0 if nodes is None else int(nodes.sum()),
                       "members": 0 if nodes is None else int((nodes & one.members(stage)).sum())}
                numbers = dict.fromkeys(("low", "high", "null", "null_low", "null_high", "beats"), np.nan)
                if not np.isnan(share):
                    null = one.null_shares(stage, form, draws)
                    low, high = interval(one.share(stage, form, weights))
                    null_low, null_high = interval(null)
                    numbers = {"low": float(low), "high": float(high), "null": float(null.mean()), "null_low": float(null_low),
                               "null_high": float(null_high), "beats": float((null < share - 1e-12).mean())}
                why = one.why.get(stage) or ("" if nodes is not None else
                                             "no circuit" if form != "all heads" and not one.in_circuit.any() else "no head matters")
                rows.append(row | numbers | {"why": why})
    return pd.DataFrame(rows)


FUNCTIONS = ("look at the indirect object", "look at the subject", "look elsewhere")


def function_shares(found: Sequence[HeadScores], bar: float = 0.5) -> pd.DataFrame:
    """Who helps directly, told by where it looks on the prompts themselves, not by a score: a row per checkpoint that does IOI.

    Columns: model, step, tokens_seen and, for each of `FUNCTIONS`, that share of the direct effects that help. A head looks at
    what gets more of its attention from END (the subject: S1 and S2 together), if the names together get more than `bar`.
    """
    rows = []
    for one in (scores for scores in found if scores.does_ioi):
        helps = np.clip(-one.score("direct"), 0, None)
        io, subject = one.score("to_IO"), one.score("to_S1") + one.score("to_S2")
        where = np.where(io + subject <= bar, 2, np.where(io > subject, 0, 1))
        shares = [helps[where == i].sum() / helps.sum() for i in range(len(FUNCTIONS))]
        rows.append({"model": one.model, "step": one.step, "tokens_seen": one.tokens_seen, **dict(zip(FUNCTIONS, shares))})
    return pd.DataFrame(rows, columns=["model", "step", "tokens_seen", *FUNCTIONS])


@dataclass(frozen=True)
class Verdict:
    """What the suite at hand says of one claim."""

    answer: str                                        # "holds", "does not hold", "can't tell"
    share: float                                       # the lowest of the checkpoints
    low: float
    high: float
    checkpoints: int


def verdict(shares: pd.DataFrame, claimed: float) -> Verdict:
    """Is the share above `claimed` at all these checkpoints? Rows of `share_table`, one form and stage.

    "does not hold" where the interval of some share lies below, "holds" where all lie above, else "can't tell".
    """
    there = shares.dropna(subset=["share"])
    if there.empty:
        return Verdict("can't tell", np.nan, np.nan, np.nan, 0)
    worst = there.loc[there["share"].idxmin()]
    answer = "does not hold" if (there["high"] < claimed).any() else "holds" if (there["low"] > claimed).all() else "can't tell"
    return Verdict(answer, float(worst["share"]), float(worst["low"]), float(worst["high"]), len(there))


# ------------------------------------------------------------------ resample what is called irrelevant

SCRUBS = {"without": "all but the classes", "heads": "the classes alone", "roles": "the classes, in their roles alone"}


def scrub_masks(graph: Graph, members: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Circuits {name of `SCRUBS`: bool [src, dst]} that keep what the algorithm names; all else carries corrupted outputs.

    members: {stage: bool [head]}. MLPs and the embedding are kept: the algorithm says nothing of them. "heads" keeps all edges
    but those out of heads in no class. "roles" keeps, of a head's edges, those the algorithm speaks of: from the stage
    "direct" to the logits and to MLPs, from "steering" to queries of "direct", from "tertiary" to values of "steering".
    "without" is what "heads" takes away: how much is left if the named heads are resampled instead.
    """
    rows = np.array([graph.source(*divmod(i, graph.n_heads)) for i in range(graph.n_layers * graph.n_heads)])
    columns = {kind: np.array([graph.destination(*divmod(i, graph.n_heads), kind) for i in range(len(rows))]) for kind in "qkv"}
    anyone = np.any(list(members.values()), axis=0)
    keep, without, roles = (graph.mask.copy() for _ in range(3))
    keep[rows[~anyone]] = False
    without[rows[anyone]] = False
    roles[rows] = False
    mlps = [graph.destination(layer) for layer in range(graph.n_layers)]
    for targets, stage in (([*mlps, graph.n_dst - 1], "direct"), (columns["q"][members["direct"]], "steering"),
                           (columns["v"][members["steering"]], "tertiary")):
        roles[np.ix_(rows[members[stage]], targets)] = True
    return {"without": without, "heads": keep, "roles": roles & graph.mask}


def random_members(members: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The same sets of heads with the heads' places shuffled: as many of each, overlapping as much, but other ones."""
    order = rng.permutation(len(next(iter(members.values()))))
    return {stage: found[order] for stage, found in members.items()}


def measure_scrubs(suite: Suite, anatomies: Sequence[Anatomy], circuits: Sequence[Found], store: Store,
                   recipe: Recipe | str = "robust", draws: int = 6, device: str = "cpu", dtype: torch.dtype = torch.float32,
                   progress: bool = True) -> pd.DataFrame:
    """What is left of IOI: a row per checkpoint with classes, corruption and scrub.

    Columns: model, step, tokens_seen, corruption (where the resampled outputs come from: "swap", the task's own, or "abc",
    prompts with three other names), scrub (see `SCRUBS`), faithfulness (normalised) with low and high over prompts; and, for
    "swap", random: the mean of `draws` random sets of heads instead, with the lowest and highest of them.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    graphs = {one.model: one.circuit.graph for one in circuits}
    rows = []
    for one in tqdm([a for a in anatomies if a.members("direct").any()], desc="resampling", unit="checkpoint", disable=not progress):
        members, rng = {stage: one.members(stage) for stage in STAGES}, np.random.default_rng(recipe.seed)
        named = scrub_masks(graphs[one.model], members)
        random = {name: [] for name in ("heads", "roles")}
        for other in (scrub_masks(graphs[one.model], random_members(members, rng)) for _ in range(draws)):
            for name, masks in random.items():
                masks.append(other[name])
        checkpoint = suite.checkpoint(one.model, one.step)
        load = cache(partial(checkpoint.load, device=device, dtype=dtype))
        for corruption in ("swap", "abc"):
            masks = [*named.values(), *(mask for of in random.values() for mask in of if corruption == "swap")]
            metric = measure_masks(checkpoint, "ioi", masks, store, recipe.prompts["ioi"], recipe.seed, load=load, dtype=dtype,
                                   corruption=corruption)
            clean, corrupted, values = metric[0], metric[1], metric[2:]
            mean, weights = faithfulness(values.mean(1), clean.mean(), corrupted.mean(), "normalised"), bootstrap_draws(len(clean))
            others = dict(zip(random, mean[len(named):].reshape(len(random), -1)))
            for name, value, kept in zip(named, mean, values):
                low, high = interval(faithfulness(weights @ kept, weights @ clean, weights @ corrupted, "normalised"))
                rows.append({"model": one.model, "step": one.step, "tokens_seen": one.tokens_seen, "corruption": corruption,
                             "scrub": name, "faithfulness": value, "low": float(low), "high": float(high)})
                if len(others.get(name, ())):
                    rows[-1] |= {"random": others[name].mean(), "random_low": others[name].min(), "random_high": others[name].max()}
    columns = ["model", "step", "tokens_seen", "corruption", "scrub", "faithfulness", "low", "high", "random", "random_low",
               "random_high"]
    return pd.DataFrame(rows, columns=columns)
