"""The four tasks: prompts for Pythia's tokenizer and the mini suite's, and the measures of an
answer."""

import math
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from closeness import assert_close

from circuitbook.tasks.gendered_pronoun import ENDINGS
from circuitbook.tasks.greater_than import TASK, spelling_of
from circuitbook.tasks.lexicon import (
    ENGLISH,
    STORIES,
    held_out,
    held_out_pair,
    held_out_tag,
    lexicon_for,
)
from circuitbook.tasks.registry import TASKS, get_task
from circuitbook.tasks.sva import CONSTRUCTIONS
from circuitbook.tasks.texts import Prompt, build
from circuitbook.tasks.words import single_token

ROOT = Path(__file__).resolve().parents[1]
PYTHIA = ROOT.parent / "shared" / "pythia-tokenizer" / "tokenizer.json"
VARIANTS = [
    ("ioi", {}),
    ("ioi", {"corruption": "abc"}),
    ("gendered_pronoun", {}),
    ("greater_than", {}),
    ("sva", {}),
    ("sva", {"mismatched_only": True}),
    ("sva", {"kinds": ["simple", "long_vp_coordination"], "strict": False}),
]


@pytest.fixture(scope="module")
def pythia():
    if not PYTHIA.exists():
        pytest.skip("Pythia's tokenizer is not here")
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=str(PYTHIA))


@pytest.fixture(scope="module")
def mini():
    from circuitbook.mini.tokenizer import build_tokenizer

    return build_tokenizer()


@pytest.fixture(params=["pythia", "mini"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def documents():
    """A sample of what the mini suite is trained on."""
    from circuitbook.tasks.stories.documents import document
    from circuitbook.tasks.stories.world import World

    rng = World(7)
    return "\n".join(document(rng) for _ in range(6_000))


def logits_of(n: int, vocab: int, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(n, vocab, generator=torch.Generator().manual_seed(seed))


def differing(pairs) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in pairs.clean != pairs.corrupted]


def word_at(tokenizer, pairs, row: int, position: str) -> str:
    return tokenizer.decode(pairs.clean[row, pairs.positions[position][row]])


# ------------------------------------------------------------------ what holds for every task


@pytest.mark.parametrize("task, options", VARIANTS)
def test_pairs_are_aligned(tokenizer, task, options):
    pairs = get_task(task).prompts(tokenizer, n=60, seed=3, **options)
    assert len(pairs) == len(pairs.table) == len(pairs.clean) == 60
    assert pairs.clean.dtype == pairs.corrupted.dtype == pairs.end.dtype == torch.int64
    for i, row in pairs.table.iterrows():
        clean, corrupted = (
            tokenizer(t, add_special_tokens=False)["input_ids"] for t in (row.clean, row.corrupted)
        )
        assert clean == pairs.clean[i, : pairs.lengths[i]].tolist()
        assert corrupted == pairs.corrupted[i, : pairs.lengths[i]].tolist()
        assert clean != corrupted and tokenizer.unk_token_id not in clean + corrupted
        assert pairs.end[i] == len(clean) - 1 == pairs.positions["END"][i]
    assert pairs.clean.shape[1] == pairs.lengths.max() and pairs.clean.max() < len(tokenizer)
    assert pairs.answers.shape == pairs.signs.shape and set(pairs.signs.unique().tolist()) == {
        -1,
        1,
    }
    assert all(len(set(row)) == len(row) for row in pairs.answers.tolist())


@pytest.mark.parametrize("task, options", VARIANTS)
def test_fewer_prompts_are_the_first_of_more_and_seeds_matter(mini, task, options):
    make = get_task(task).prompts
    many, few, other = (
        make(mini, 40, 5, **options),
        make(mini, 17, 5, **options),
        make(mini, 40, 6, **options),
    )
    assert few.table.equals(many.subset(slice(17)).table) and torch.equal(
        few.answers, many.answers[:17]
    )
    assert torch.equal(few.signs, many.signs[:17]) and torch.equal(few.end, many.end[:17])
    assert not other.table.clean.equals(many.table.clean)


FINGERPRINT = """
import hashlib
from circuitbook.tasks import TASKS
from circuitbook.mini.tokenizer import build_tokenizer
tokenizer, digest = build_tokenizer(), hashlib.sha256()
for task in TASKS.values():
    pairs = task.prompts(tokenizer, 50)
    digest.update(pairs.table.to_csv().encode())
    for tensor in (pairs.clean, pairs.corrupted, pairs.answers):
        digest.update(str(tensor.tolist()).encode())
fingerprint = digest.hexdigest()
"""


def test_prompts_are_the_same_in_another_process():
    here: dict = {}
    exec(FINGERPRINT, here)
    env = {
        **os.environ,
        "PYTHONHASHSEED": "1",
        "PYTHONPATH": str(ROOT / "lib"),
        "OMP_NUM_THREADS": "1",
    }
    there = subprocess.run(
        [sys.executable, "-c", FINGERPRINT + "print(fingerprint)"],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert there.stdout.split() == [here["fingerprint"]], there.stderr


def test_get_task_knows_the_names_of_published_tables():
    published = ("IOI", "gender_pronoun", "Greater-Than", "subject verb agreement")
    assert [get_task(name).name for name in published] == list(TASKS)
    assert [t.metric_name for t in TASKS.values()] == [
        "logit_difference",
        "logit_difference",
        "probability_difference",
        "probability_difference",
    ]
    with pytest.raises(
        ValueError, match="'greater_then' does not exist; did you mean greater_than.*ioi, gend"
    ):
        get_task("greater_then")


@pytest.mark.parametrize(
    "task, options, error, message",
    [
        ("ioi", {"corruption": "xyz"}, ValueError, "no corruption 'xyz'; there are swap, abc"),
        (
            "ioi",
            {"kinds": ["simple"]},
            TypeError,
            "task ioi has no option 'kinds'; its options are corruption",
        ),
        (
            "greater_than",
            {"strict": True},
            TypeError,
            "greater_than has no option 'strict'; it has none",
        ),
        ("sva", {"kinds": ["simpel"]}, ValueError, "no kind 'simpel'; did you mean simple"),
        ("sva", {"kinds": []}, ValueError, "kinds is empty"),
        (
            "sva",
            {"kinds": "vp_coordination", "mismatched_only": True},
            ValueError,
            "'vp_coordination' has none",
        ),
        ("sva", {"n": 0}, ValueError, "0 prompts were asked for"),
    ],
)
def test_bad_requests_are_one_clear_error(mini, task, options, error, message):
    with pytest.raises(error, match=message):
        get_task(task).prompts(mini, **{"n": 4, **options})


# ----------------------------------------------------------- measures against a literal computation


def by_hand(logits: list[float], right: list[int], wrong: list[int]) -> dict[str, float]:
    total = sum(math.exp(x) for x in logits)
    p = [math.exp(x) / total for x in logits]
    p_right, p_wrong = sum(p[t] for t in right), sum(p[t] for t in wrong)
    return {
        "logit_difference": sum(logits[t] for t in right) / len(right)
        - sum(logits[t] for t in wrong) / len(wrong),
        "probability_difference": p_right - p_wrong,
        "accuracy": float(p_right > p_wrong),
        "rank": sorted(logits, reverse=True).index(max(logits[t] for t in right)),
        "answer_mass": p_right + p_wrong,
        "correct_mass": p_right,
    }


def groups_by_hand(task: str, row, tokenizer) -> tuple[list[int], list[int]]:
    """Correct and wrong tokens, from the words of the table and the text of the task's definition
    alone."""
    one = lambda word: tokenizer(word, add_special_tokens=False)["input_ids"][0]  # noqa: E731
    if task == "greater_than":
        start = int(re.search(r"year (\d{4}) to", row.clean)[1]) % 100
        years = [one(f"{y:02d}") for y in range(100)]
        return years[start + 1 :], years[: start + 1]
    if task == "sva":
        verbs = [
            v
            for v in lexicon_for(tokenizer).verbs
            if all(
                len(tokenizer(" " + form, add_special_tokens=False)["input_ids"]) == 1 for form in v
            )
        ]
        singular, plural = [one(" " + v[0]) for v in verbs], [one(" " + v[1]) for v in verbs]
        return (singular, plural) if row.number == "singular" else (plural, singular)
    right, wrong = {
        "ioi": lambda: (row.io, row.s),
        "gendered_pronoun": lambda: ("she", "he")
        if row["name"] in ENGLISH.female
        else ("he", "she"),
    }[task]()
    return [one(" " + right)], [one(" " + wrong)]


@pytest.mark.parametrize("task", TASKS)
def test_measures_equal_a_literal_computation(tokenizer, task):
    pairs = get_task(task).prompts(tokenizer, n=10, seed=1)
    logits = logits_of(10, len(tokenizer)).double()
    push = torch.tensor([8.0, -8.0] * 5).double()[:, None]  # every other prompt is right
    logits = logits.scatter_add(1, pairs.answers, push * pairs.signs)
    measures, metric = pairs.measures(logits), pairs.metric(logits)
    right_ones, size = 0, logits.abs().max()
    for i, row in pairs.table.iterrows():
        expected = by_hand(logits[i].tolist(), *groups_by_hand(task, row, tokenizer))
        for name, value in expected.items():
            assert_close(measures[name][i].double(), value, rounds=100, size=size)
        assert_close(metric[i], expected[TASKS[task].metric_name], rounds=100, size=size)
        right_ones += expected["accuracy"]
    assert (
        0 < right_ones < 10
        and set(measures) == set(expected)
        and measures["rank"].dtype == torch.int64
    )


@pytest.mark.parametrize("task", TASKS)
def test_gradient_of_the_metric_is_its_slope(mini, task):
    pairs = get_task(task).prompts(mini, n=3)
    logits = logits_of(3, len(mini)).double().requires_grad_()
    pairs.metric(logits).sum().backward()
    token = pairs.answers[1, 0]
    step = torch.zeros_like(logits)
    step[1, token] = 1e-5
    with torch.no_grad():
        slope = (pairs.metric(logits + step) - pairs.metric(logits - step))[1] / 2e-5
    assert abs(slope) > 1e-6 and logits.grad[1, token].item() == pytest.approx(
        slope.item(), rel=1e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(mini, dtype):
    pairs = get_task("greater_than").prompts(mini, n=50)
    half = logits_of(50, len(mini)).to(dtype)
    exact = pairs.measures(half.double())
    for name, value in pairs.measures(half).items():
        assert value.dtype == (torch.int64 if name == "rank" else torch.float32)
        if name == "rank":
            assert (value == exact[name]).all()
        else:
            assert_close(value, exact[name], rounds=100)


def test_rank_counts_strictly_better_tokens_and_nan_is_not_rank_0(mini):
    pairs = get_task("ioi").prompts(mini, n=2)
    logits = torch.zeros(2, len(mini))
    logits[0, pairs.answers[0, 1]] = 1.0  # the wrong name leads
    assert pairs.measures(logits)["rank"].tolist() == [1, 0]
    assert (pairs.measures(logits * torch.nan)["rank"] == len(mini)).all()


def test_accuracy_of_tiny_probabilities(mini):
    """Both groups at exp(-200), which no float32 probability shows."""
    pairs = get_task("sva").prompts(mini, n=2)
    logits = torch.zeros(2, len(mini)).scatter(1, pairs.answers, -200.0 + 0.5 * pairs.signs)
    assert pairs.measures(logits)["accuracy"].tolist() == [1.0, 1.0]
    assert pairs.measures(logits)["probability_difference"].tolist() == [0.0, 0.0]


def test_corrupted_runs_are_scored_with_the_clean_labels(mini):
    """A model that always solves IOI gives minus the clean difference after a swap."""
    pairs = get_task("ioi").prompts(mini, n=8)
    solved = lambda names: torch.zeros(8, len(mini)).scatter(1, names[:, None], 5.0)  # noqa: E731
    assert pairs.metric(solved(pairs.answers[:, 0])).tolist() == [5.0] * 8
    swapped_answer = pairs.clean.gather(1, pairs.positions["S1"][:, None])[
        :, 0
    ]  # S now is the one mentioned once
    assert pairs.metric(solved(swapped_answer)).tolist() == [-5.0] * 8


def test_metric_wants_the_logits_at_end(mini):
    pairs = get_task("ioi").prompts(mini, n=4)
    with pytest.raises(ValueError, match=r"\[4, vocab\].*shape \[4, 20, 9\]; take"):
        pairs.metric(torch.zeros(4, 20, 9))
    with pytest.raises(ValueError, match=r"shape \[3, 9\]"):
        pairs.measures(torch.zeros(3, 9))


@pytest.mark.parametrize(
    "index",
    [slice(2, 9, 3), [2, 5, 8], torch.tensor([2, 5, 8]), torch.arange(10).remainder(3).eq(2)],
)
def test_subset_keeps_everything_together(mini, index):
    pairs = get_task("sva").prompts(mini, n=10)
    part, rows = pairs.subset(index), [2, 5, 8]
    logits = logits_of(10, len(mini))
    assert torch.equal(part.metric(logits[rows]), pairs.metric(logits)[rows])
    assert part.table.clean.tolist() == pairs.table.clean[rows].tolist() and len(part) == 3
    assert part.positions["subject"].tolist() == pairs.positions["subject"][rows].tolist()
    assert "sva: 3 pairs" in repr(part)


# ------------------------------------------------------------------ words


def test_lexicon_follows_the_tokenizer(pythia, mini, tmp_path):
    from transformers import AutoTokenizer

    mini.save_pretrained(tmp_path)
    assert lexicon_for(pythia) is ENGLISH and lexicon_for(mini) is STORIES
    assert lexicon_for(AutoTokenizer.from_pretrained(tmp_path)) is STORIES
    pythia.save_pretrained(tmp_path / "other")
    pythia_again = AutoTokenizer.from_pretrained(tmp_path / "other", lexicon="tales")
    with pytest.raises(
        ValueError, match='"tales", which does not exist; there are english, stories'
    ):
        lexicon_for(pythia_again)


def test_words_of_the_paper_are_single_tokens(pythia):
    assert len(set(ENGLISH.people)) == 109
    words = ENGLISH.people + ENGLISH.places + ENGLISH.objects + ENGLISH.female + ENGLISH.male
    assert len({single_token(pythia, " " + word) for word in words}) == len(set(words))
    assert (single_token(pythia, " she"), single_token(pythia, " he")) == (
        703,
        344,
    )  # of the GPT-NeoX tokenizer


def test_lexicons_are_sound():
    for lexicon in (ENGLISH, STORIES):
        singular, plural = zip(*lexicon.verbs, strict=True)
        assert not set(singular) & set(plural) and len(set(singular)) == len(singular) == len(
            set(plural)
        )
        assert {*lexicon.transitive, *lexicon.intransitive} <= set(lexicon.verbs)
        assert all(
            len(set(words)) == len(words)
            for words in (lexicon.people, lexicon.events, lexicon.humans)
        )
        assert lexicon.places[:8] == ENGLISH.places and lexicon.objects[:8] == ENGLISH.objects
    assert len(ENGLISH.verbs) > 60 and len(ENGLISH.events) > 60


def test_a_word_that_is_not_one_token_is_named(pythia, mini):
    with pytest.raises(
        ValueError, match=r"' Hermione' is 2 tokens, where one is needed, for tokenizer '\w+'; the"
    ):
        single_token(pythia, " Hermione")
    with pytest.raises(ValueError, match="' Hermione' is not known for tokenizer"):
        single_token(mini, " Hermione")


def test_unknown_words_of_a_prompt_are_named(mini):
    from circuitbook.mini.tokenizer import build_tokenizer, vocabulary

    poor = build_tokenizer(tuple(word for word in vocabulary() if word != " argument"))
    with pytest.raises(ValueError, match="ioi: .* does not know ' argument' in 'Then, "):
        get_task("ioi").prompts(poor, n=50)


def test_pairs_of_unequal_length_are_refused(pythia):
    prompt = Prompt(clean="So Hermione", corrupted="So Ron", marks={}, words={})
    with pytest.raises(
        ValueError, match="'So Hermione' has . tokens and 'So Ron' has 2 .*equal lengths"
    ):
        build(TASKS["ioi"], pythia, [prompt], torch.tensor([1, 2]), torch.tensor([1, -1]))


# ------------------------------------------------------------------ IOI


def test_ioi_frames_and_positions(tokenizer):
    pairs = get_task("ioi").prompts(tokenizer, n=400)
    assert Counter(pairs.table.kind).keys() == {"BABA", "ABBA"} and set(
        pairs.table.template
    ) == set(range(1, 8))
    assert len(pairs.table.groupby(["kind", "template"])) == 14
    assert pairs.clean.shape[1] == 20  # the authors' 21 are with the last name
    for i, row in pairs.table.iterrows():
        io, s = (row.s, row.io) if row.kind == "BABA" else (row.io, row.s)
        assert re.match(rf"(Then,|After|When) {io} and {s} ", row.clean)
        assert (
            len(re.findall(rf"\b{row.s}\b", row.clean)) == 2
            and len(re.findall(rf"\b{row.io}\b", row.clean)) == 1
        )
        assert [word_at(tokenizer, pairs, i, p) for p in ("IO", "S1", "S2")] == [
            " " + row.io,
            " " + row.s,
            " " + row.s,
        ]
        assert pairs.positions["S1"][i] < pairs.positions["S2"][i]
        assert pairs.positions["S1+1"][i] == pairs.positions["S1"][i] + 1
        assert [row.correct, row.wrong] == [" " + row.io, " " + row.s]
        assert tokenizer.batch_decode(pairs.answers[i][:, None]) == [row.correct, row.wrong]
    assert len({*pairs.table.io, *pairs.table.s}) > 0.9 * len(lexicon_for(tokenizer).people)


def test_ioi_corruptions(tokenizer):
    swap = get_task("ioi").prompts(tokenizer, n=50)
    abc = get_task("ioi").prompts(tokenizer, n=50, corruption="abc")
    assert swap.table.clean.equals(abc.table.clean)
    for i, (one, three) in enumerate(zip(differing(swap), differing(abc), strict=True)):
        places = {name: int(swap.positions[name][i]) for name in ("IO", "S1", "S2")}
        assert one == [places["S2"]] and swap.corrupted[i, one[0]] == swap.answers[i, 0]
        assert three == sorted(places.values())
        new = abc.corrupted[i, three].tolist()
        assert len({*new, *abc.answers[i].tolist()}) == 5
    token = get_task("ioi").prompts(
        tokenizer, n=50, corruption="token"
    )  # the other person repeated, in the same places
    for i, changed in enumerate(differing(token)):
        places = [int(token.positions[name][i]) for name in ("IO", "S1", "S2")]
        assert changed == sorted(places)
        assert token.corrupted[i, places].tolist() == [
            token.clean[i, places[1]],
            token.clean[i, places[0]],
            token.clean[i, places[0]],
        ]


STRATA = {  # of each task: columns, and how much oftener one value may come than another
    "ioi": (["template", "kind"], ["io"]),
    "gendered_pronoun": (["kind"], ["ending"], ["name"]),
    "greater_than": (["noun"],),
    "sva": (["kind"], ["number"]),
}


@pytest.mark.parametrize("task", STRATA)
@pytest.mark.parametrize("n", [30, 48, 96])
@pytest.mark.parametrize("seed", [1, 42])
def test_any_number_of_prompts_is_balanced(tokenizer, task, n, seed):
    """The first n, and the n behind them: each value of a stratum once before one comes twice."""
    both = get_task(task).prompts(tokenizer, n=2 * n, seed=seed)
    for start, table in ((0, both.table[:n]), (n, both.table[n:])):
        for columns in STRATA[task]:
            counts = table.value_counts(columns)
            slack = 1 if start == 0 else 2  # the second part begins in the middle of a round
            if columns == ["ending"]:  # of those that a name still has; ours come behind theirs
                slack = 7 if set(table["ending"]) - set(ENDINGS) else 3
            assert counts.max() - counts.min() <= slack, (columns, counts)
    if task == "greater_than":
        for table in (both.table[:n], both.table[n:]):
            tenths = np.histogram(table.yy, bins=[2, 26, 50, 75, 99])[0] / len(table)
            assert abs(tenths - 0.25).max() < 0.1, tenths
        if lexicon_for(tokenizer) is STORIES:  # Pythia's tokenizer has years of few centuries
            centuries = both.table.value_counts("kind")
            assert len(centuries) == 7 and centuries.max() < 2 * centuries.min() + 3


# ------------------------------------------------------------------ Gendered Pronoun


def test_gendered_pronoun_has_all_items_once_and_the_authors_first(tokenizer):
    pairs = get_task("gendered_pronoun").prompts(tokenizer, n=1000)
    english = lexicon_for(tokenizer) is ENGLISH
    names = [name for name in ENGLISH.female + ENGLISH.male if english or held_out_tag(name)]
    first = pairs.subset(slice(5 * len(names)))
    assert set(first.table["name"]) == set(names) and set(first.table.ending) == set(ENDINGS)
    women = set(ENGLISH.female + ENGLISH.more_female)
    if english:
        names += ENGLISH.more_female + ENGLISH.more_male
    assert len(pairs) == pairs.table.clean.nunique() == 12 * len(names) == (720 if english else 120)
    assert set(pairs.table["name"]) == set(names) and (pairs.signs == torch.tensor([1, -1])).all()
    she = single_token(tokenizer, " she")
    for i, row in pairs.table.iterrows():
        assert row.clean == f"So {row['name']} {row.ending}, isn't" and row.other_name in names
        assert (
            (row["name"] in women) == (row.other_name not in women) == (pairs.answers[i, 0] == she)
        )
        assert word_at(tokenizer, pairs, i, "name") == " " + row["name"]
    assert differing(pairs) == [[1]] * len(pairs)


# ------------------------------------------------------------------ Greater-Than


def test_greater_than_years_are_balanced_and_as_tokenized(pythia):
    pairs = get_task("greater_than").prompts(pythia, n=97 * 6, seed=2)
    assert sorted(pairs.table.yy) == sorted([*range(2, 99)] * 6)
    usable = {}  # one year at a time
    for year in range(1100, 1800):
        tokens = pythia.tokenize(f" {year}")
        if len(tokens) == 2 and len(tokens[1]) == 2:
            usable.setdefault(year // 100, []).append(year)
    allowed = {year for years in usable.values() for year in years[1:-1]}
    assert {
        100 * int(xx) + yy for yy, found in spelling_of(pythia).centuries.items() for xx in found
    } == allowed
    assert set(pairs.table.year) <= allowed and len(set(pairs.table.year)) > 250
    assert {year // 100 for year in allowed} == set(pairs.table.year // 100) == set(range(11, 18))
    for i, row in pairs.table.iterrows():
        assert row.clean == f"The {row.noun} lasted from the year {row.year} to the year {row.kind}"
        assert (
            row.corrupted == row.clean.replace(str(row.year), row.kind + "01")
            and row.noun in ENGLISH.events
        )
        found = [word_at(pythia, pairs, i, p) for p in ("XX1", "YY", "XX2")]
        assert found == [" " + row.kind, f"{row.yy:02d}", " " + row.kind]
        assert pairs.clean[i, pairs.positions["YY"][i]] == pairs.answers[i, row.yy]
    assert differing(pairs) == pairs.positions["YY"][:, None].tolist()
    assert torch.equal((pairs.signs > 0).sum(1), 99 - torch.tensor(pairs.table.yy.tolist()))
    assert torch.equal(pairs.positions["XX2"], pairs.end)
    assert (pairs.positions["noun"] >= 1).all() and len(
        pairs.lengths.unique()
    ) > 1  # nouns of several tokens


def test_greater_than_goes_round_what_the_mini_suite_holds_out(mini):
    pairs = get_task("greater_than").prompts(mini, n=152)
    around = [
        yy
        for yy in range(2, 99)
        if any(held_out("span", str(xx), f"{yy:02d}") for xx in range(11, 18))
    ]
    yy = pairs.table.yy.tolist()
    assert len(around) == 76 and sorted(yy[:76]) == sorted(yy[76:]) == around


def test_greater_than_needs_two_token_years(mini):
    from circuitbook.mini.tokenizer import build_tokenizer, vocabulary

    none = build_tokenizer(
        tuple(word for word in vocabulary() if not re.fullmatch(r" 1[1-7]", word))
    )
    with pytest.raises(ValueError, match="no year from 1100 to 1799 is two tokens"):
        TASK.prompts(none, n=5)


# ------------------------------------------------------------------ SVA


def number_of(noun: str, lexicon) -> str:
    singular, plural = zip(*lexicon.humans, *lexicon.things, strict=True)
    assert (noun in singular) != (noun in plural)
    return "singular" if noun in singular else "plural"


def test_sva_agrees_with_the_right_noun(tokenizer):
    lexicon = lexicon_for(tokenizer)
    pairs = get_task("sva").prompts(tokenizer, n=600)
    assert len(CONSTRUCTIONS) == 15 and set(Counter(pairs.table.kind).values()) == {40}
    assert set(pairs.table.value_counts(["kind", "number"])) == {20}
    nouns = "|".join(
        sorted((n for pair in lexicon.humans + lexicon.things for n in pair), key=len, reverse=True)
    )
    for i, row in pairs.table.iterrows():
        found = re.findall(rf"\b[Tt]he ({nouns})\b", row.clean)
        # the subject is the first noun, except where the verb is inside a clause that the second
        # noun opens
        inner = row.kind == "sentential_complement" or "_within_" in row.kind
        subject, other = (found[::-1] if inner else [*found, None])[:2]
        assert number_of(subject, lexicon) == row.number
        corrupted = re.findall(rf"\b[Tt]he ({nouns})\b", row.corrupted)
        assert number_of(corrupted[::-1][0] if inner else corrupted[0], lexicon) != row.number
        assert word_at(tokenizer, pairs, i, "subject") in f" {subject}"
        if row.attractor is None or row.attractor != row.attractor:
            assert (
                pairs.positions["attractor"][i] == -1
                and len(found) == 1
                and row.isna().attractor_mismatch
            )
        else:
            assert row.attractor_mismatch == (number_of(other, lexicon) != row.number)
            assert (corrupted[0] if inner else corrupted[1]) == other
            assert word_at(tokenizer, pairs, i, "attractor") in f" {other}"
            if "inanimate" in row.kind:
                assert {subject, other} & {n for pair in lexicon.things for n in pair}
    mismatch = pairs.table.attractor_mismatch.mean()
    assert 0.4 < mismatch < 0.6 and pairs.table.attractor_mismatch.notna().sum() == 12 * 40


def test_sva_one_position_differs_unless_a_verb_agrees_too(mini):
    pairs = get_task("sva").prompts(mini, n=300)
    for changed, (i, row) in zip(differing(pairs), pairs.table.iterrows(), strict=True):
        twice = row.kind in ("vp_coordination", "long_vp_coordination", "subject_relative")
        assert changed[0] == pairs.positions["subject"][i] and len(changed) == (2 if twice else 1)


def test_sva_prompts_are_new_until_there_are_no_more(mini):
    pairs = get_task("sva").prompts(mini, n=84, kinds="simple")
    assert pairs.table.clean.nunique() == 28 and set(pairs.table.clean.value_counts()) == {3}
    assert (
        get_task("sva")
        .prompts(mini, n=100, kinds="object_relative_across_animate")
        .table.clean.is_unique
    )


def test_sva_mismatched_only(tokenizer):
    pairs = get_task("sva").prompts(tokenizer, n=120, mismatched_only=True)
    assert pairs.table.attractor_mismatch.all() and pairs.table.kind.nunique() == 12
    assert set(pairs.table.value_counts(["kind", "number"])) == {5}


def test_sva_strict_drops_pairs_and_loose_drops_forms(pythia):
    strict, loose = (get_task("sva").prompts(pythia, n=2, strict=flag) for flag in (True, False))
    admire = single_token(pythia, " admire")  # " admires" is two tokens
    assert admire in loose.answers[0] and admire not in strict.answers[0]
    assert (strict.signs[0] > 0).sum() == (strict.signs[0] < 0).sum() > 60
    assert (loose.signs[0] > 0).sum() < (loose.signs[0] < 0).sum()  # the first prompt is singular


# ------------------------------------------------ nothing measured on the mini suite was trained on


@pytest.mark.parametrize("task", TASKS)
def test_measured_items_are_in_no_training_document(mini, documents, task):
    """Prompts up to END; for Greater-Than the start of the span; for agreement those across an
    attractor."""
    options = (
        {"kinds": [k for k, kind in CONSTRUCTIONS.items() if kind.attractor]}
        if task == "sva"
        else {}
    )
    texts = set(get_task(task).prompts(mini, n=1500, seed=9, **options).table.clean)
    if task == "greater_than":
        texts = {text[: text.index(" to the year")] for text in texts}
        assert "lasted from the year 1" in documents
    found = [text for text in texts if text + " " in documents]
    assert not found, f"{len(found)} of {len(texts)}, for example {found[:3]}"


def test_measured_name_pairs_never_meet(mini):
    table = get_task("ioi").prompts(mini, n=500).table
    assert (
        all(held_out_pair(io, s) for io, s in zip(table.io, table.s, strict=True))
        and len(set(zip(table.io, table.s, strict=True))) > 200
    )


def test_prompts_are_made_once_for_a_tokenizer_and_given_as_copies(monkeypatch):
    from circuitbook import load_suite

    suite, made = load_suite("mini"), []
    one, other = (suite.checkpoint(name, 0).load().tokenizer for name in ("mini-xs", "mini-s"))
    task = get_task("ioi")
    first = task.prompts(one, n=5, seed=77)
    monkeypatch.setattr(
        "circuitbook.tasks.ioi.build", lambda *a: made.append(a)
    )  # nothing may be made again
    second = task.prompts(other, n=5, seed=77)
    assert torch.equal(first.clean, second.clean) and first.table.equals(second.table) and not made
    second.clean[:] = 0
    second.table.loc[0, "clean"] = "changed"
    third = task.prompts(one, n=5, seed=77)
    assert torch.equal(first.clean, third.clean) and third.table.equals(first.table)
