"""The exercises' checks: the chapters' solutions pass, typical mistakes are told by name, anything
else without a diagnosis."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from circuitbook.teaching import exercises
from circuitbook.teaching.answers import names, number
from circuitbook.teaching.checking import Case, Check, Mistake
from circuitbook.teaching.exercises.circuit_edges import _edge_cases
from circuitbook.teaching.exercises.common import CHECKS

ROOT = Path(__file__).resolve().parents[1]
FINDINGS = (
    "abilities",
    "circuits",
    "circuits-over-training",
    "components",
    "after-formation",
    "algorithm",
    "real-model",
    "stability",
)


def solutions() -> dict[str, tuple[str, str]]:
    """{check: (chapter, the chapter's solution)}, from the cells that call a check."""
    found = {}
    for chapter in FINDINGS:
        for cell in nbformat.read(ROOT / f"notebooks/{chapter}.ipynb", as_version=4).cells:
            if (
                cell.cell_type == "code"
                and "solution" in cell.metadata.get("tags", [])
                and "exercises.check_" in cell.source
            ):
                found[cell.source.split("exercises.check_")[1].split("(")[0]] = chapter, cell.source
    return found


def test_every_check_is_an_exercise_and_every_chapter_has_one():
    assert set(solutions()) == set(CHECKS)
    assert {chapter for chapter, _ in solutions().values()} == set(FINDINGS)
    assert all(callable(getattr(exercises, f"check_{name}")) for name in CHECKS)
    # in the order of the chapters (those on circuits share their exercises)
    at = [FINDINGS.index(solutions()[name][0]) for name in CHECKS]
    assert [1 if one == 2 else one for one in at] == sorted(1 if one == 2 else one for one in at)


@pytest.mark.parametrize("name", CHECKS)
def test_the_chapters_solution_passes(name):
    """With nothing but what the chapter's cells before it import: see `verdict_in`."""
    verdict = verdict_in(solutions()[name][0], solutions()[name][1])
    assert (
        verdict.right is True
        and bool(verdict)
        and f"on {len(list(CHECKS[name].cases()))} inputs" in verdict.says
    )


def verdict_in(chapter, solution):
    """What the check in the last line of a solution says, in the notebook's own state: of the cells
    before it the imports are made, and of solutions all of it. The book's build runs all cells."""
    space = {}
    for cell in nbformat.read(ROOT / f"notebooks/{chapter}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        if cell.source == solution:
            *lines, check = tree.body
            exec(compile(ast.Module(lines, []), chapter, "exec"), space)
            return eval(compile(ast.Expression(check.value), chapter, "eval"), space)
        imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(imports, []), chapter, "exec"), space)
    raise AssertionError(f"{chapter} has no such solution")


@pytest.mark.parametrize("name", CHECKS)
def test_every_mistake_of_a_check_is_told_by_its_own_name(name):
    for mistake in CHECKS[name].mistakes:
        verdict = CHECKS[name].of(mistake.gives)
        assert verdict.right is False and verdict.says.startswith(mistake.says)


# Mistakes as learners write them, apart from the library's own list.
WRITTEN = [
    (
        "logit_difference",
        lambda logits, right, wrong: float(
            np.mean([logits[i, wrong[i]] - logits[i, right[i]] for i in range(len(logits))])
        ),
        "wrong sign",
    ),
    (
        "logit_difference",
        lambda logits, right, wrong: sum(
            logits[i, right[i]] - logits[i, wrong[i]] for i in range(len(logits))
        ),
        "sum over the prompts",
    ),
    (
        "logit_difference",
        lambda logits, right, wrong: logits[range(len(logits)), right]
        - logits[range(len(logits)), wrong],
        "one for each prompt, so that the mean over the prompts",
    ),
    (
        "emergence",
        lambda t, c, s: np.interp(s * c[-1], c[:2], t[:2])
        if c[1] >= s * c[-1]
        else t[1] + (t[2] - t[1]) * (s * c[-1] - c[1]) / (c[2] - c[1])
        if c[2] >= s * c[-1]
        else t[-2] + (t[-1] - t[-2]) * (s * c[-1] - c[-2]) / (c[-1] - c[-2]),
        "interpolate in tokens",
    ),
    ("edge_score", lambda a, b, g: ((a - b) * g).sum((2, 3)).mean(), "wrong sign"),
    (
        "edge_score",
        lambda a, b, g: torch.einsum("npd,mnpd->", b - a, g),
        "sum over prompts and over points",
    ),
    ("edge_score", lambda a, b, g: ((b - a) * g[0]).sum((1, 2)).mean(), "first point alone"),
    ("edge_score", lambda a, b, g: ((b - a) * g).sum((2, 3)).mean(0), "one for each prompt"),
    ("faithfulness", lambda m, b, c: (m.sum() / b.sum()).item(), "ratio m / b"),
    ("faithfulness", lambda m, b, c: (b.mean() - m.mean()) / (b.mean() - c.mean()), "what is lost"),
    ("dead_edges", lambda edges: set(edges), "Nothing is pruned"),
    ("jaccard", lambda a, b: 2 * len(a & b) / max(len(a) + len(b), 1), "Dice"),
    ("jaccard", lambda a, b: len(a & b) / len(a | b), "stops in its line"),
    (
        "induction_score",
        lambda p, n: np.mean([[p[s, n + i, i] for i in range(n)] for s in range(len(p))]),
        "duplicate-token score",
    ),
    (
        "induction_score",
        lambda p, n: np.mean([[p[s, i + 1, n + i] for i in range(n)] for s in range(len(p))]),
        "Rows and columns are swapped",
    ),
    (
        "copy_score",
        lambda w, u, n: (w @ u.T).argmax(-1).eq(n).double().mean(),
        "only the single highest",
    ),
    (
        "copy_score",
        lambda w, u, n: (-(w @ u.T)).topk(5).indices.eq(n[..., None]).any(-1).double().mean(),
        "five lowest",
    ),
    (
        "balance",
        lambda x: np.std(x.numpy().sum(1)) / np.std(x.numpy(), axis=0).sum(),
        "standard deviations",
    ),
    ("self_repair", lambda b, a, w: ((b - a) / w.mean()).mean(), "share that is lost"),
    ("effect", lambda p, c, x: (c.mean() - p.mean()) / (c.mean() - x.mean()), "wrong sign"),
    ("class_share", lambda e, c, i: e[c & i].sum() / e[i].sum(), "with their signs"),
    (
        "mover",
        lambda t: t[(t["to_IO"] > 0.2) & (t["copy"] > 0.5)].sort_values("direct").iloc[-1][:2],
        "harms most",
    ),
    ("mover", lambda t: t.sort_values("direct").iloc[0][["layer", "head"]], "of all heads"),
    (
        "weighted_jaccard",
        lambda a, b: (abs(a).minimum(abs(b)).sum() / abs(a).maximum(abs(b)).sum()).item(),
        "do not normalise",
    ),
    ("ewma", lambda x, alpha: [sum(x[: i + 1]) / (i + 1) for i in range(len(x))], "mean so far"),
]


@pytest.mark.parametrize(
    ("name", "function", "said"),
    WRITTEN,
    ids=[f"{name}-{i}" for i, (name, *_) in enumerate(WRITTEN)],
)
def test_a_mistake_as_a_learner_makes_it_is_recognised(name, function, said):
    verdict = CHECKS[name].of(function)
    assert verdict.right is False and said in verdict.says


@pytest.mark.parametrize("name", CHECKS)
def test_what_is_wrong_otherwise_is_told_without_a_diagnosis(name):
    """Values that no mistake gives, and values that are right on some inputs only."""
    check, known = CHECKS[name], [mistake.says for mistake in CHECKS[name].mistakes]
    cases = list(check.cases())
    other = {names: ["a7.h7->logits"]}.get(check.read)
    strange = iter(range(len(cases)))

    def value(case):
        if other:
            return other
        if np.ndim(case.right):
            return [17.5 + i for i, _ in enumerate(case.right)]
        return 17.5 + 3.1 * next(strange) ** 2

    answers = iter([value(case) for case in cases])
    verdict = check.of(lambda *inputs: next(answers))
    assert verdict.right is False and not any(says in verdict.says for says in known)
    assert f"on all {len(cases)} inputs" in verdict.says
    answers = iter(
        [
            *(case.right for case in cases[:-1]),
            value(cases[-1]) if not isinstance(cases[-1].right, float) else 99.0,
        ]
    )
    verdict = check.of(lambda *inputs: next(answers))
    assert (
        f"is right on {len(cases) - 1} of {len(cases)} inputs, but not on {cases[-1].about}"
        in verdict.says
    )


SMALL = Check(
    "doubling",
    "Doubling",
    ("x",),
    lambda: [Case("three", (3,), 6.0), Case("five", (5,), 10.0)],
    (Mistake("You square it.", lambda x: x * x),),
    each=lambda x: {"thing": x},
)


def test_whatever_a_function_does_is_one_sentence():
    assert (
        repr(SMALL.of(lambda x: 2 * x))
        == "Right: <lambda> gives what the library gives on 2 inputs (three; five)."
    )

    def double(x): ...

    assert SMALL.of(double).right is None and "returns nothing" in SMALL.of(double).says

    def todo(x):
        raise NotImplementedError

    assert SMALL.of(todo).right is None

    def stops(x):
        return {}[x]

    assert (
        SMALL.of(stops).says
        == "stops stops in its line 'return {}[x]' with KeyError: 3; the input was three."
    )
    for function, said in (
        (12, "this is an int, not a function"),
        (lambda: 1, "cannot be called with the 1 inputs"),
        (lambda x, y: 1, "which are (x)"),
        (lambda x: "6", "a str, and one number is wanted"),
        (lambda x: True, "a bool, and one number"),
        (lambda x: torch.ones(2, 2), "a tensor of shape [2, 2]"),
        (lambda x: [1.0] * x, "one for each thing, so that the mean over the things"),
        (lambda x: float("nan"), "gives nan"),
        (lambda x: np.inf, "gives infinity"),
        (lambda x: 3 * x, "off by one constant factor"),
        (lambda x: x + 1, "no mistake that this check knows"),
        (lambda x: x * x, "You square it. (Seen on 2 inputs.)"),
    ):
        verdict = SMALL.of(function)
        assert (
            verdict.right is False
            and said in verdict.says
            and "6.0" not in verdict.says
            and "10.0" not in verdict.says
        )
    assert (
        SMALL.of(lambda x: torch.tensor(2.0 * x)).right
        and SMALL.of(lambda x: np.array([2 * x])).right
    )


def test_inputs_are_safe_from_the_function():
    def wild(logits, right, wrong):
        logits.zero_()
        return 0.0

    before = [case.inputs[0].clone() for case in CHECKS["logit_difference"].cases()]
    CHECKS["logit_difference"].of(wild)
    assert all(
        torch.equal(old, case.inputs[0])
        for old, case in zip(before, CHECKS["logit_difference"].cases(), strict=True)
    )


def test_the_tensors_of_an_edge_give_the_librarys_score():
    """Independent of attribution: activations and gradients come from transformers by hooks."""
    for case in _edge_cases():
        a, b, g = case.inputs
        assert abs(case.right) > 1e-6
        assert torch.einsum("npd,mnpd->", b - a, g).item() / len(a) / len(g) == pytest.approx(
            case.right, rel=1e-9
        )


def test_markdown_shows_names_as_they_are():
    assert number(np.float32(2.5)) == 2.5
    said = SMALL.of(lambda x: {}["a0.h1<q>_*"])._repr_markdown_()
    assert said.startswith("**Not right yet:** ") and r"a0.h1\<q\>\_\*" in said
