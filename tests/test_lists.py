"""Ordered lists: the passages, what their models read, and the task."""

import hashlib
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import tokenizers_by_hand
import torch

from circuitbook.mini import list_text
from circuitbook.mini.list_text import ListText, RoleText
from circuitbook.mini.tokenizer import EOS, build_tokenizer, split, vocabulary
from circuitbook.tasks import ioi, next_in_list
from circuitbook.tasks.lexicon import STORIES, held_out_pair
from circuitbook.tasks.stories.ordered_lists import (
    ACTS,
    INTRODUCED,
    SHARES,
    SIZES,
    ordered_list,
    role_list,
)
from circuitbook.tasks.stories.repetition import names_in
from circuitbook.tasks.stories.world import World

NAMES = frozenset(STORIES.people)


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+|[.,]", text)


def list_of(text: str) -> list[str]:
    """The names up to the verb of the first clause: written without the grammar."""
    names = []
    for word in words_of(text)[1:]:  # behind "Yesterday" and the like
        if word in NAMES:
            names.append(word)
        elif word not in (",", "and"):
            return names
    raise AssertionError(text)


def acts_of(text: str) -> list[tuple[str, list[str], str]]:
    """(giver, names between, receiver) of every act: a clause that ends in "to NAME."."""
    places = "|".join(STORIES.places)
    behind = re.split(rf"(?:{places})[.,] ", text, maxsplit=1)[1]  # the opening ends in a place
    acts = []
    for sentence in re.findall(r"[^.]+\.", behind):
        named = [word for word in words_of(sentence) if word in NAMES]
        if re.search(r" to [A-Z]\w+\.$", sentence):
            acts.append((named[0], named[1:-1], named[-1]))
    return acts


@pytest.fixture(scope="module")
def lists():
    rng = World(5)
    return [ordered_list(rng) for _ in range(2000)]


def test_the_receiver_is_the_next_of_the_list(lists):
    seen, between, others = Counter(), [], []
    for text in lists:
        names = list_of(text)
        assert len(set(names)) == len(names) and len(names) in SIZES, text
        acts = acts_of(text)
        assert ACTS[0] <= len(acts) <= ACTS[1], text
        after = dict(zip(names, names[1:] + names[:1], strict=True))
        for giver, named, receiver in acts:
            assert after[giver] == receiver, text
            seen[len(names), names.index(giver)] += 1
            between.append(bool(named))
            others += [name in names for name in named]
            assert giver not in named
    sizes = Counter(len(list_of(text)) for text in lists)
    for size, share in SHARES.items():
        assert sizes[size] / len(lists) == pytest.approx(share / sum(SHARES.values()), abs=0.04)
        places = np.array([seen[size, at] for at in range(size)])
        assert (abs(places / places.mean() - 1) < 0.1).all()  # every place gives as often
    assert np.mean(between) == pytest.approx(0.25, abs=0.02)
    assert np.mean(others) == pytest.approx(0.25, abs=0.04)


def test_lists_are_of_the_languages_words_and_pairs(lists):
    words = set(vocabulary())
    met = set()
    for text in lists:
        assert not set(split(text)) - words
        met |= {frozenset(pair) for pair in combinations(names_in(text), 2)}
    every = {frozenset(pair) for pair in combinations(STORIES.people, 2)}
    apart = {pair for pair in every if held_out_pair(*pair)}
    assert not met & apart and len(met) > 0.95 * len(every - apart)


def test_sizes_that_lists_do_not_have_are_refused():
    assert {len(list_of(ordered_list(World(i), (3,)))) for i in range(20)} == {3}
    for sizes in ((), (1,), (2, 5)):
        with pytest.raises(ValueError, match="lists have 2 to 4 people"):
            ordered_list(World(1), sizes)


ROLES = "|".join(singular for singular, _ in STORIES.humans)


def roles_of(text: str) -> dict[str, str]:
    """{role: name} as the list gives them: written without the grammar."""
    opening = re.split(r"\b(?:went|were|came)\b", text, maxsplit=1)[0]
    return dict(re.findall(rf"the ({ROLES}) ([A-Z]\w+)", opening))


def test_with_roles_the_giver_is_called_by_what_the_list_says():
    rng, words = World(5), set(vocabulary())
    introduced, sizes = 0, Counter()
    for _ in range(2000):
        text = role_list(rng)
        names = roles_of(text)
        assert len(names) in SIZES and not set(split(text)) - words, text
        sizes[len(names)] += 1
        listed = list(names.values())
        last = re.split(r"(?<=[.,]) (?=[Tt]he )", text)[-1]
        assert last.lower().startswith("the ")
        role = last.split()[1].rstrip(",")
        if again := re.fullmatch(rf"[Tt]he ({ROLES}) ([A-Z]\w+) was \w+\.", last):
            introduced += 1
            assert names[again[1]] == again[2], text
        else:
            giver = names[role]
            assert last.endswith(f" to {listed[(listed.index(giver) + 1) % len(listed)]}."), text
            assert giver not in last, text
        assert not any(held_out_pair(*pair) for pair in combinations(names_in(text), 2))
    assert introduced / 2000 == pytest.approx(INTRODUCED, abs=0.04)
    for size, share in SHARES.items():
        assert sizes[size] / 2000 == pytest.approx(share / sum(SHARES.values()), abs=0.04)
    with pytest.raises(ValueError, match="lists have 2 to 4 people"):
        role_list(World(1), (5,))


# ------------------------------------------------------------------ what is read


def rows_as_text(text: ListText, step: int) -> list[str]:
    words = np.array(vocabulary())
    return ["".join(words[row]) for row in text(step).numpy()]


def test_lists_grow_and_begin_their_rows():
    text = ListText(seed=3, share=0.6, pairs_until=32, threes_until=64)
    opening = re.compile(r"(?:Yesterday|While|When) [A-Z]\w+(?:,| and) ")
    for step, sizes in ((0, {2}), (31, {2}), (32, {2, 3}), (63, {2, 3}), (64, {2, 3, 4})):
        assert {*text.sizes(step)} == sizes
        found, lists = set(), 0
        for row in rows_as_text(text, step) + rows_as_text(text, step - step % 32 + 5):
            assert not row.startswith(EOS)  # as prompts
            body = row.split(EOS)[0]
            if opening.match(body) and "saw" not in body.split(".")[0]:
                lists += 1
                found.add(len(list_of(body)))
        assert found == sizes and 20 < lists < 56  # of 64 rows, 38 are expected


def test_the_text_is_a_function_of_the_step():
    text = ListText(seed=3)
    first = text(7)
    assert first.shape == (32, 64) and first.dtype == torch.int64
    list_text._block.cache_clear()
    assert torch.equal(text(7), first) and not torch.equal(text(8), first)
    assert not torch.equal(ListText(seed=4)(7), first)


def test_lists_with_roles_stand_among_the_others():
    text = RoleText(seed=3, roles=0.5, pairs_until=32, threes_until=64)
    for step, sizes in ((0, {2}), (32, {2, 3})):
        starts = [row.split(EOS)[0] for row in rows_as_text(text, step)]
        with_roles = [roles_of(start) for start in starts if roles_of(start)]
        assert {len(names) for names in with_roles} == sizes
        assert 6 <= len(with_roles) <= 26  # of 32, 16 are expected
    plain = RoleText(seed=3, roles=0.0, pairs_until=32, threes_until=64)
    assert not any(roles_of(row) for row in rows_as_text(plain, 0))
    with pytest.raises(ValueError, match="between 0 and 1, not at 2"):
        RoleText(seed=1, roles=2)


def test_the_recorded_runs_read_this_text():
    """Another text would make the table one of other runs."""
    read = hashlib.sha256()
    for text, step in ((ListText(seed=1), 0), (ListText(seed=1), 6000), (RoleText(seed=1), 12_000)):
        read.update(text(step).numpy().tobytes())
    assert read.hexdigest()[:16] == "a4cc1e0d3bf93431"


def test_a_share_of_no_lists_is_the_mixture_alone():
    rows = rows_as_text(ListText(seed=3, share=0.0), 0)
    every = rows_as_text(ListText(seed=3, share=1.0), 0)
    is_list = re.compile(r"(?:Yesterday|While|When) [A-Z]\w+(?:,| and) ")
    assert all(is_list.match(row) for row in every)
    assert sum(bool(is_list.match(row)) for row in rows) < 4


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"share": 1.5}, "between 0 and 1"),
        ({"pairs_until": 100}, "multiples of that"),
        ({"pairs_until": 640, "threes_until": 320}, "ascending order"),
    ],
)
def test_texts_that_cannot_be_are_refused(what, message):
    with pytest.raises(ValueError, match=message):
        ListText(seed=1, **what)


# ------------------------------------------------------------------ the task


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def prompts(tokenizer, n=96, **options):
    return next_in_list.TASK.prompts(tokenizer, n, **options)


def parsed(text: str) -> tuple[list[str], str]:
    """The list and the giver of a prompt."""
    names = list_of(text)
    rest = [word for word in words_of(text) if word in NAMES][len(names) :]
    return names, rest[0]


def after(names: list[str], giver: str) -> str:
    return dict(zip(names, names[1:] + names[:1], strict=True))[giver]


def test_prompts_ask_for_the_next_of_a_list_that_was_not_read(tokenizer, lists):
    pairs = prompts(tokenizer)
    met = {frozenset(pair) for text in lists for pair in combinations(names_in(text), 2)}
    for i, row in pairs.table.iterrows():
        names, giver = parsed(row["clean"])
        assert (len(names), giver) == (row["size"], row["s"]) and row["clean"].endswith(" to")
        assert after(names, giver) == row["io"] and names.index(giver) == row["at"]
        assert frozenset((row["io"], giver)) not in met and held_out_pair(row["io"], giver)
        words = {
            place: tokenizer.decode(pairs.clean[i, at[i]]).strip()
            for place, at in pairs.positions.items()
            if at[i] >= 0
        }
        assert (words["IO"], words["S1"], words["S2"]) == (row["io"], giver, giver)
        assert words["END"] == "to" and ("other" in words) == isinstance(row["other"], str)
        if "other" in words:
            assert words["other"] == row["other"] and row["other"] not in names
            assert pairs.positions["S2"][i] < pairs.positions["other"][i] < pairs.end[i]
    right, wrong = (tokenizer.convert_ids_to_tokens(column) for column in pairs.answers.T)
    assert right == [" " + io for io in pairs.table["io"]]
    assert wrong == [" " + s for s in pairs.table["s"]]


def test_prompts_are_balanced(tokenizer):
    table = prompts(tokenizer, 72).table
    assert set(table["size"].value_counts()) == {24}
    for size, of_size in table.groupby("size"):
        counts = of_size.groupby(["at", of_size["other"].notna()]).size()
        assert len(counts) == 2 * size and set(counts) == {24 // (2 * size)}
    fewer = prompts(tokenizer, 30).table
    assert fewer.equals(table.iloc[:30])
    assert set(prompts(tokenizer, 8, sizes=(3,)).table["size"]) == {3}


def test_corruptions_are_what_they_say(tokenizer):
    clean = prompts(tokenizer)
    for corruption in ("swap", "order", "token"):
        pairs = prompts(tokenizer, corruption=corruption)
        assert torch.equal(pairs.clean, clean.clean)
        for row in pairs.table.itertuples():
            names, giver = parsed(row.clean)
            others, acts = parsed(row.corrupted)
            assert set(others) == set(names)
            if corruption == "swap":
                assert others == names and after(names, acts) == row.s
                words = zip(split(row.clean), split(row.corrupted), strict=True)
                assert sum(a != b for a, b in words) == 1
            elif corruption == "order":  # the same relations in other places
                assert acts == giver and after(others, acts) == row.io
                assert others.index(row.io) == names.index(row.s)
            else:  # other people in the same places
                assert others.index(acts) == names.index(giver) and acts != giver
                assert after(others, acts) == row.s
                assert others.index(row.s) == names.index(row.io)


def test_across_neither_giver_is_an_answer(tokenizer):
    pairs = prompts(tokenizer, 24, corruption="across", sizes=(4,))
    assert torch.equal(pairs.clean, prompts(tokenizer, 24, sizes=(4,)).clean)
    for row, answers in zip(pairs.table.itertuples(), pairs.answers, strict=True):
        names, giver = parsed(row.clean)
        others, acts = parsed(row.corrupted)
        right, wrong = (word.strip() for word in tokenizer.convert_ids_to_tokens(answers))
        assert others == names and {giver, acts, right, wrong} == set(names)
        assert (after(names, giver), after(names, acts)) == (right, wrong)
    with pytest.raises(ValueError, match=r"give sizes=\(4,\)"):
        prompts(tokenizer, corruption="across")


def test_roles_stay_with_people_unless_they_are_exchanged(tokenizer):
    clean = prompts(tokenizer, roles=True)
    for corruption in ("swap", "order", "token", "exchange"):
        pairs = prompts(tokenizer, corruption=corruption, roles=True)
        assert torch.equal(pairs.clean, clean.clean)
        for i, row in enumerate(pairs.table.itertuples()):
            before, then = roles_of(row.clean), roles_of(row.corrupted)
            names, others = list(before.values()), list(then.values())
            acted, acts = (
                re.findall(rf"[Tt]he ({ROLES})\b(?! [A-Z])", text)[0]
                for text in (row.clean, row.corrupted)
            )
            assert before[acted] == row.s and after(names, row.s) == row.io
            assert after(others, then[acts]) == (row.io if corruption == "order" else row.s)
            if corruption == "exchange":
                assert acts == acted and others == names and set(then) == set(before)
                assert sum(before[role] != then[role] for role in before) == 2
            else:
                assert before == then  # as sets of pairs
            found = {
                place: tokenizer.decode(pairs.clean[i, at[i]]).strip()
                for place, at in pairs.positions.items()
            }
            assert (found["IO"], found["S1"]) == (row.io, row.s)
            assert found["R1"] == found["S2"] == acted
            assert pairs.positions["R1"][i] + 1 == pairs.positions["S1"][i]
    with pytest.raises(ValueError, match="no corruption 'exchange'"):
        prompts(tokenizer, corruption="exchange")
    across = prompts(tokenizer, 12, corruption="across", sizes=(4,), roles=True)
    for row in across.table.itertuples():
        names = roles_of(row.clean)
        assert names == roles_of(row.corrupted)
        acts = re.findall(rf"[Tt]he ({ROLES})\b(?! [A-Z])", row.corrupted)[0]
        assert row.s not in (names[acts], after(list(names.values()), names[acts]))


def test_with_two_people_it_is_ioi(tokenizer):
    for corruption in ("swap", "order", "token"):
        for row in prompts(tokenizer, 12, corruption=corruption, sizes=(2,)).table.itertuples():
            names, _ = parsed(row.clean)
            order = "BABA" if names[0] == row.s else "ABBA"
            as_ioi = ioi._names(corruption, order, row.io, row.s)
            others, acts = parsed(row.corrupted)
            assert [*others, acts] == [as_ioi[slot] for slot in ("first", "second", "S2")]


def test_options_of_the_task_that_cannot_be_are_refused(tokenizer):
    with pytest.raises(
        ValueError, match="no corruption 'abc'; there are swap, order, token, across"
    ):
        prompts(tokenizer, corruption="abc")
    with pytest.raises(ValueError, match="none of \\(5,\\)"):
        prompts(tokenizer, sizes=(5,))


def test_other_tokenizers_can_be_asked():
    """English ones do not know the rule, but the prompts are theirs, too."""
    english = tokenizers_by_hand.byte_level()
    pairs = prompts(english, 12)
    for i, row in pairs.table.iterrows():
        names = re.match(r"\w+ ((?:\w+, )*\w+ and \w+) ", row["clean"])[1]
        names = re.split(r", | and ", names)
        assert english.decode(pairs.clean[i, : pairs.lengths[i]]) == row["clean"]
        assert after(names, row["s"]) == row["io"] and len(names) == row["size"]
        assert english.convert_ids_to_tokens(pairs.answers[i].tolist()) == [
            "Ġ" + row["io"],
            "Ġ" + row["s"],
        ]
