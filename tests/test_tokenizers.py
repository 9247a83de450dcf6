"""The tasks with tokenizers of every kind: what is asked reads as English, with its answers."""

import re
import shutil

import pandas as pd
import pytest
import tokenizers_by_hand as by_hand
import torch
from closeness import assert_close
from conftest import random_network, save_checkpoint

from circuitbook import attribute, load_suite
from circuitbook.circuits.batches import first_difference
from circuitbook.heads.copy_suppression import function_tokens
from circuitbook.heads.successor import successor_pairs
from circuitbook.store import measurement_key
from circuitbook.studies.abilities import answers_to
from circuitbook.studies.answer_readers import read_answers
from circuitbook.studies.chapter import open_chapter
from circuitbook.tasks import TASKS, get_task
from circuitbook.tasks.greater_than import NINES
from circuitbook.tasks.lexicon import ENGLISH
from circuitbook.tasks.two_digits import two_digit_answers
from circuitbook.tasks.words import known, single_tokens, tokens_after

KINDS = dict(by_hand.every_kind())
ALL = [*KINDS, "SmolLM2's"]


@pytest.fixture(scope="module")
def smollm2_tokenizer():
    try:
        suite = load_suite("smollm2")
        model = suite.models[0]
        return suite.checkpoint(model, suite.steps(model)[-1]).load().tokenizer
    except (ValueError, RuntimeError) as error:
        pytest.skip(f"SmolLM2 cannot be had: {error}")


@pytest.fixture
def tokenizer(request):
    if request.param == "SmolLM2's":
        return request.getfixturevalue("smollm2_tokenizer")
    return KINDS[request.param]


# ------------------------------------------------------------------ what is asked, and the answers


def answer_words(task: str, row: pd.Series) -> tuple[set[str], set[str]]:
    """The right and the wrong words behind a prompt, by its text and the task's definition."""
    if task == "ioi":
        first, second = re.match(r"\w+,? (\w+) and (\w+) ", row.clean).groups()
        giver = re.findall(rf"\b({first}|{second})\b", row.clean)[2]
        return {" " + (second if giver == first else first)}, {" " + giver}
    if task == "gendered_pronoun":
        female = re.match(r"So (\w+) ", row.clean)[1] in ENGLISH.female
        return ({" she"}, {" he"}) if female else ({" he"}, {" she"})
    if task == "greater_than":
        yy = int(re.search(r"year \d\d(\d\d) ", row.clean)[1])
        if "9" in row.correct and len(row.correct) == 3:  # "4-9"
            assert yy % 10 == 9
            return {str(d) for d in range(10) if d > yy // 10}, {
                str(d) for d in range(10) if d <= yy // 10
            }
        return {f"{y:02d}" for y in range(yy + 1, 100)}, {f"{y:02d}" for y in range(yy + 1)}
    number = ["singular", "plural"].index(row.number)
    return tuple({" " + verb[i] for verb in ENGLISH.verbs} for i in (number, 1 - number))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("tokenizer", ALL, indirect=True)
def test_prompt_and_answer_read_as_the_text(tokenizer, task):
    pairs = get_task(task).prompts(tokenizer, 45, seed=4)
    read = lambda ids: tokenizer.decode(ids).removeprefix(" ")  # noqa: E731
    for i, row in pairs.table.iterrows():
        prompt = pairs.clean[i, : pairs.lengths[i]].tolist()
        assert read(prompt) == row.clean
        assert read(pairs.corrupted[i, : pairs.lengths[i]].tolist()) == row.corrupted
        right, wrong = answer_words(task, row)
        said = {1: set(), -1: set()}
        for answer, sign in zip(pairs.answers[i].tolist(), pairs.signs[i].tolist(), strict=True):
            text = read([*prompt, answer])
            assert text.startswith(row.clean)
            said[sign].add(text.removeprefix(row.clean))
        if task == "sva":  # what is not one token is left out
            assert said[1] <= right and said[-1] <= wrong and len(said[1]) > 60
        else:
            assert (said[1], said[-1]) == (right, wrong)
        assert len(said[1]) + len(said[-1]) == pairs.answers.shape[1]


@pytest.mark.parametrize("tokenizer", ALL, indirect=True)
def test_positions_are_those_of_the_words(tokenizer):
    def behind(pairs, i, name):
        """The text up to a position: it ends with the word that is looked for."""
        return tokenizer.decode(pairs.clean[i, : pairs.positions[name][i] + 1].tolist())

    pairs = get_task("ioi").prompts(tokenizer, 30)
    for i, row in pairs.table.iterrows():
        for name, word in {"IO": row.io, "S1": row.s, "S2": row.s}.items():
            assert behind(pairs, i, name).endswith(" " + word)
            token = pairs.clean[i, pairs.positions[name][i]]
            assert token == pairs.answers[i, 0 if name == "IO" else 1]  # the very token
        assert pairs.positions["S2"][i] > pairs.positions["S1"][i]
    assert torch.equal(first_difference(pairs), pairs.positions["S2"])
    pairs = get_task("greater_than").prompts(tokenizer, 30)
    for i, row in pairs.table.iterrows():
        assert behind(pairs, i, "noun").endswith("The " + row.noun)
        assert behind(pairs, i, "XX1").endswith(f"year {row.kind}")
        assert behind(pairs, i, "YY").endswith(f"year {row.year}")
        if "tens" in pairs.positions:
            assert behind(pairs, i, "tens").endswith(f"year {row.year // 10}")
            assert pairs.clean[i, pairs.positions["tens"][i]] == pairs.answers[i, row.yy // 10]
    begins = pairs.positions.get("tens", pairs.positions["YY"])
    assert torch.equal(first_difference(pairs), begins)


def test_smollm2_leaves_out_three_names_and_five_verbs(smollm2_tokenizer):
    pairs = get_task("ioi").prompts(smollm2_tokenizer, 400)
    assert pairs.left_out == {"people": ("Brandon", "Connor", "Kyle")}
    assert len({*pairs.table.io} | {*pairs.table.s}) > 95
    verbs = get_task("sva").prompts(smollm2_tokenizer, 4).left_out["verbs"]
    assert verbs == ("hates/hate", "admires/admire", "laughs/laugh", "swims/swim", "sleeps/sleep")
    assert get_task("greater_than").prompts(smollm2_tokenizer, 8).answers.shape == (8, 10)


# ------------------------------------------------------------------ words that are left out


def test_words_of_several_tokens_are_left_out_and_named():
    tokenizer = KINDS["byte-level"]
    pairs = get_task("ioi").prompts(tokenizer, 300)
    lost = {"Brandon", "Connor", "Kyle"}
    assert not lost & ({*pairs.table.io} | {*pairs.table.s})
    assert pairs.left_out == {"people": ("Brandon", "Connor", "Kyle")}
    assert "left out: 3 people" in repr(pairs) and pairs.subset([1]).left_out == pairs.left_out
    abc = get_task("ioi").prompts(tokenizer, 300, corruption="abc").table.corrupted
    assert not any(name in text for text in abc for name in lost)
    agreement = get_task("sva").prompts(tokenizer, 300)
    assert agreement.left_out == {"transitive": ("hates/hate",), "verbs": ("hates/hate",)}
    assert tokens_after(tokenizer, "and", ["hates"])[0][0] not in agreement.answers
    whole = get_task("sva").prompts(by_hand.byte_level(), 300)
    assert not whole.left_out and "left out" not in repr(whole)
    assert whole.answers.shape[1] == agreement.answers.shape[1] + 2


def test_names_without_a_partner_of_their_length_are_left_out():
    women = [*ENGLISH.female, *ENGLISH.more_female]
    tokenizer = by_hand.byte_level(drop=("Judy",))
    pairs = get_task("gendered_pronoun").prompts(tokenizer, 100)
    assert pairs.left_out == {"names": ("Judy",)} and "Judy" not in {*pairs.table.other_name}
    assert set(pairs.table["name"][:95]) == {*ENGLISH.female, *ENGLISH.male} - {"Judy"}
    assert set(pairs.table["name"][95:]) & {*ENGLISH.more_female, *ENGLISH.more_male}
    # all of five tokens or more: no name to stand for them
    with pytest.raises(ValueError, match="only 0 of the 60 names .* of as many tokens .*10 are"):
        get_task("gendered_pronoun").prompts(by_hand.byte_level(drop=tuple(women)), 9)
    with pytest.raises(
        ValueError, match=r"^gendered_pronoun: ' she' is \d tokens.*be put to its models"
    ):
        get_task("gendered_pronoun").prompts(by_hand.byte_level(drop=("she", "sheets")), 9)


def test_with_too_few_words_a_task_is_refused_with_the_number():
    most, fewer = (ENGLISH.people[:count] for count in (69, 70))
    assert len(get_task("ioi").prompts(by_hand.byte_level(drop=most), 7)) == 7  # 40 remain
    with pytest.raises(
        ValueError,
        match=r"ioi: for tokenizer '\w+' only 39 of the 109 people of the english lexicon are one "
        r"token \('Aaron', for one, is not so\), and 40 are needed",
    ):
        get_task("ioi").prompts(by_hand.byte_level(drop=fewer), 7)
    with pytest.raises(ValueError, match="only 7 of the 8 places .* are known.* 8 are needed"):
        get_task("ioi").prompts(by_hand.word_level(drop=("garden",)), 7)
    with pytest.raises(ValueError, match="sva: .* only 0 of the 10 long phrases .*'long_vp_coord"):
        get_task("sva").prompts(by_hand.word_level(drop=("newspapers", *_OTHER_PHRASES)), 7)
    kinds = ["simple", "prepositional_animate"]
    tokenizer = by_hand.word_level(drop=("newspapers", *_OTHER_PHRASES))
    assert len(get_task("sva").prompts(tokenizer, 7, kinds=kinds)) == 7


_OTHER_PHRASES = "languages hospital chess stories travel letters station city evening".split()


def test_words_that_are_unknown_are_left_out_where_others_can_stand():
    tokenizer = by_hand.word_level(drop=("siege", "ring", "poem", "behind", "Aaron"))
    for task, slot, words in (
        ("greater_than", "events", ("siege",)),
        ("ioi", "objects", ("ring",)),
        ("sva", "things", ("poem/poems",)),
        ("sva", "prepositions", ("behind",)),
    ):
        pairs = get_task(task).prompts(tokenizer, 300)
        assert pairs.left_out[slot] == words
        assert not any(re.search(rf"\b({words[0]})\b", text) for text in pairs.table.clean)
        assert tokenizer.unk_token_id not in pairs.clean
    with pytest.raises(ValueError, match="does not know ' thinking' in 'Then, "):
        get_task("ioi").prompts(by_hand.word_level(drop=("thinking",)), 60)


# ------------------------------------------------------------------ tokens in context


def test_words_of_a_sentencepiece_tokenizer_are_found_in_context():
    tokenizer = KINDS["SentencePiece prepend"]
    assert len(tokenizer.tokenize(" Mary")) == 2  # a space of its own, which text has not
    tokens = single_tokens(tokenizer, ["Mary", "Hermione"], after=["to", "Then,"])
    assert tokens == {"Mary": tokenizer.convert_tokens_to_ids("▁Mary")}
    assert known(tokenizer, ["Mary", "Hermione"], "to") == ["Mary", "Hermione"]
    lists = {one.name: one for one in successor_pairs(KINDS["SentencePiece with years"])}
    pairs = lists["numbers"].pairs.tolist()
    spelled = [KINDS["SentencePiece with years"].convert_ids_to_tokens(pair) for pair in pairs]
    assert spelled == [[f"▁{i}", f"▁{i + 1}"] for i in (1, *range(10, 20))]


@pytest.mark.parametrize("kind", ["byte-level", "SentencePiece always", "words"])
def test_function_words_are_known_with_and_without_their_space(kind):
    tokenizer = KINDS[kind]
    function = function_tokens(tokenizer)
    (the, store), stop = (
        [tokens[0] for tokens in tokens_after(tokenizer, "and", ["the", "store"])],
        tokenizer(".", add_special_tokens=False)["input_ids"][-1],
    )
    assert function[the] and function[stop] and not function[store]
    tokenizer = by_hand.sentence_piece("always")
    tokenizer.backend_tokenizer.decoder = None  # not all files say how to decode
    assert function_tokens(tokenizer)[tokens_after(tokenizer, "and", ["the"])[0][0]]


def test_tokenizers_that_change_text_or_lose_it_are_refused():
    lower = by_hand.word_piece(lower=True)
    for task in TASKS:
        with pytest.raises(ValueError, match=f"{task}: .* does not tell 'Mary' from 'mary'"):
            get_task(task).prompts(lower, 4)
    cased = get_task("ioi").prompts(
        by_hand.word_piece(lower=False), 9
    )  # small letters are at fault
    assert (cased.signs == torch.tensor([1, -1])).all()

    class Slow:
        is_fast, name_or_path, init_kwargs, bos_token_id = False, "slow", {}, None

    with pytest.raises(ValueError, match="'slow' .Slow. does not say which characters.*fast"):
        get_task("ioi").prompts(Slow(), 4)


def test_a_letter_that_a_tokenizer_drops_is_named():
    from tokenizers import normalizers

    tokenizer = by_hand.byte_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("'", "")
    with pytest.raises(
        ValueError, match="""gendered_pronoun: .* does not know "isn't" in 'So|"So"""
    ):
        get_task("gendered_pronoun").prompts(tokenizer, 4)


@pytest.mark.parametrize("kind", ["byte-level", "SentencePiece first"])
def test_padding_is_a_token_of_the_prompts(kind):
    """A padding or unknown token may lie beyond the model's embedding, and nothing reads it."""
    padded = by_hand.byte_level() if kind == "byte-level" else by_hand.sentence_piece("first")
    vocabulary = len(padded)
    added = {"pad_token": "[PAD]"} | ({"unk_token": "[UNK]"} if kind == "byte-level" else {})
    padded.add_special_tokens(added)
    for task in TASKS:
        pairs = get_task(task).prompts(padded, 30)
        assert padded.pad_token_id >= vocabulary > max(pairs.clean.max(), pairs.corrupted.max())
        real = torch.arange(pairs.clean.shape[1]) < pairs.lengths[:, None]
        assert torch.equal(pairs.clean[~real], pairs.corrupted[~real])


# ------------------------------------------------------------------ years


def test_years_digit_by_digit():
    pairs = get_task("greater_than").prompts(KINDS["single digits"], 80)
    assert sorted(pairs.table.yy) == sorted([*NINES] * 10) and len(NINES) == 8
    assert pairs.answers.shape == (80, 10) and pairs.table.year.nunique() > 30
    from_19 = pairs.table[pairs.table.yy == 19].iloc[0]
    assert from_19.correct == "2-9" and from_19.wrong == "0-1"
    differ = (pairs.clean != pairs.corrupted).sum(1)
    assert (differ == 2).all()  # both digits, and nothing else
    assert (pairs.signs > 0).sum(1).tolist() == [9 - yy // 10 for yy in pairs.table.yy]


def test_the_metric_of_the_digit_is_that_of_the_hundred_years():
    """With D9, p(YY > D9) - p(YY <= D9) by the chain rule, whatever the second digit's
    probabilities."""
    generator = torch.Generator().manual_seed(1)
    tokenizer = KINDS["single digits"]
    pairs = get_task("greater_than").prompts(tokenizer, 16)
    logits = 2 * torch.randn(16, len(tokenizer), generator=generator).double()
    logits.scatter_add_(1, pairs.answers, torch.full((16, 10), 7.0).double())
    tens = logits.softmax(1).gather(1, pairs.answers)
    units = torch.rand(16, 10, 10, generator=generator).double()
    years = (tens[:, :, None] * units / units.sum(2, keepdim=True)).flatten(1)  # [n, 100]
    for i, start in enumerate(pairs.table.yy):
        exact = years[i, start + 1 :].sum() - years[i, : start + 1].sum()
        assert_close(pairs.metric(logits)[i], exact, rounds=200, size=1.0)
        assert abs(exact) > 0.01


@pytest.mark.parametrize(
    "tokenizer, pieces",
    [
        (by_hand.byte_level(years="three"), "'Ġ173' + '9'"),
        (by_hand.sentence_piece("always", years="three"), "'▁173' + '9'"),
    ],
)
def test_other_ways_to_write_years_are_refused_with_an_example(tokenizer, pieces):
    tokenizer.name_or_path = "me/odd"
    with pytest.raises(
        ValueError, match=re.escape(f"greater_than: tokenizer 'me/odd' writes ' 1739' as {pieces}:")
    ):
        get_task("greater_than").prompts(tokenizer, 4)
    get_task("ioi").prompts(tokenizer, 4)  # the other tasks are as before


class Tables:
    """A model of digits alone: the logits of the next token follow from the last four."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def logits(self, tokens, positions):
        rows = []
        for row, end in zip(tokens.tolist(), positions.tolist(), strict=True):
            seed = hash(tuple(row[: end + 1])) % 2**31
            generator = torch.Generator().manual_seed(seed)
            rows.append(2 * torch.randn(len(self.tokenizer), generator=generator).double())
        return torch.stack(rows)


def test_two_passes_equal_all_hundred_years_by_the_chain_rule():
    """Ten second passes, one behind each digit, against the one behind the start year's own; what
    is no digit behind a tens digit is right only where that digit is greater."""
    tokenizer = KINDS["single digits"]
    model = Tables(tokenizer)
    found = two_digit_answers(model, n=97, seed=3)
    digits = [tokenizer.convert_tokens_to_ids(str(d)) for d in range(10)]
    assert sorted(found.yy) == [*range(2, 99)]
    for text, name in (("clean", "metric"), ("corrupted", "corrupted_metric")):
        for _, row in found[::7].iterrows():
            ids = tokenizer(row[text], add_special_tokens=False)["input_ids"]
            ask = lambda ids: model.logits(  # noqa: E731
                torch.tensor([ids]), torch.tensor([len(ids) - 1])
            )[0].softmax(0)
            first = ask(ids)
            right = wrong = 0.0
            for d in range(10):
                second = ask([*ids, digits[d]])
                others = 1 - second[digits].sum()  # behind the digit comes another token
                for e in range(10):
                    year = first[digits[d]] * second[digits[e]]
                    later = 10 * d + e > row.yy
                    right, wrong = right + year * later, wrong + year * (not later)
                later = d > row.yy // 10  # a start year's own digit alone says no later year
                right += first[digits[d]] * others * later
                wrong += first[digits[d]] * others * (not later)
            assert row[name] == pytest.approx(float(right - wrong), rel=1e-9, abs=1e-12)
            if text == "clean":
                assert (row.right, row.wrong) == pytest.approx((float(right), float(wrong)))
    assert found.metric.abs().max() > 1e-3


@pytest.fixture(scope="module")
def digit_model(tmp_path_factory):
    """A small random Llama whose tokenizer writes years digit by digit."""
    tokenizer, root = KINDS["single digits"], tmp_path_factory.mktemp("digits")
    network = random_network(vocab=len(tokenizer), architecture="llama", heads=4, d_model=32)
    save_checkpoint(root / "run" / "step1", network)
    tokenizer.save_pretrained(root / "run" / "step1")
    return load_suite(str(root)).checkpoint("run", 1).load(dtype=torch.float64)


def test_two_passes_of_years_in_9_are_the_task(digit_model):
    model, tokenizer = digit_model, digit_model.tokenizer
    for bos in (False, True):
        found = two_digit_answers(model, n=97, prepend_bos=bos)
        nines = found[(found.yy % 10 == 9) & (found.yy > 9)]
        pairs = get_task("greater_than").prompts(tokenizer, 1).subset([0] * len(nines))
        for _, row in nines.iterrows():
            ids = tokenizer(row.clean, add_special_tokens=False)["input_ids"]
            ids = [tokenizer.bos_token_id] * bos + ids
            p = model.logits(torch.tensor([ids]), torch.tensor([len(ids) - 1]))[0].softmax(0)
            signs = torch.where(torch.arange(10) > row.yy // 10, 1, -1)
            assert row.metric == pytest.approx(float((p[pairs.answers[0]] * signs).sum()), rel=1e-9)
    assert len(nines) == 9 - 1 and nines.metric.nunique() > 4


def test_two_passes_are_for_single_digits():
    with pytest.raises(ValueError, match='as one token.*use get_task."greater_than"'):
        two_digit_answers(Tables(KINDS["byte-level"]), n=4)


def test_readers_of_single_digits_look_at_the_tens(digit_model):
    pairs = get_task("greater_than").prompts(digit_model.tokenizer, 16)
    got = read_answers(digit_model, pairs)
    digit_model.hf_model.set_attn_implementation("eager")
    patterns = digit_model.hf_model(pairs.clean, output_attentions=True).attentions
    tens = pairs.positions["YY"] - 1
    for i in range(16):
        seen = torch.cat([pattern[i, :, pairs.end[i], tens[i]] for pattern in patterns])
        # transformers takes the softmax in float32
        assert_close(got["looks"][:, i], seen.float(), rounds=100, size=1.0)
    assert got["year"].shape == (8, 16) and got["year"].any() and not got["year"].all()


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_complete_behind_a_begin_of_sequence_token(digit_model, task):
    """They sum to the change of the metric, which is computed from the very tokens."""
    pairs = get_task(task).prompts(digit_model.tokenizer, 6, prepend_bos=True)
    scores = attribute(digit_model, pairs, rule="midpoint", points=400)
    assert abs(scores.relative_gap) < 0.02
    clean, corrupted = (
        pairs.metric(digit_model.logits(tokens, pairs.end)).mean()
        for tokens in (pairs.clean, pairs.corrupted)
    )
    assert abs(clean - corrupted) > 1e-6


# ------------------------------------------------------------------ begin-of-sequence token


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["single digits", "SentencePiece prepend"])
def test_prepend_bos_moves_everything_by_one(kind, task):
    tokenizer = KINDS[kind]
    plain = get_task(task).prompts(tokenizer, 30, seed=2)
    pairs = get_task(task).prompts(tokenizer, 30, seed=2, prepend_bos=True)
    for tokens, before in ((pairs.clean, plain.clean), (pairs.corrupted, plain.corrupted)):
        assert (tokens[:, 0] == tokenizer.bos_token_id).all() and torch.equal(tokens[:, 1:], before)
    assert torch.equal(pairs.end, plain.end + 1) and torch.equal(pairs.answers, plain.answers)
    assert torch.equal(first_difference(pairs), first_difference(plain) + 1)
    for name, places in plain.positions.items():
        assert torch.equal(pairs.positions[name], places + (places >= 0))
    assert pairs.table.equals(plain.table) and pairs.prepend_bos and not plain.prepend_bos
    assert pairs.subset([3, 4]).prepend_bos and "begin-of-sequence" in repr(pairs)
    again = get_task(task).prompts(tokenizer, 30, seed=2)  # what is remembered is without it
    assert torch.equal(again.clean, plain.clean) and not again.prepend_bos


def test_a_suite_that_wants_bos_gets_it_in_every_measurement(digit_model, tmp_path):
    """Chapters, whose measurements make their own prompts, are told by the suite alone."""
    folder = shutil.copytree(digit_model.folder.parents[1], tmp_path / "suite")
    chosen = {"suite": str(folder), "tasks": ["ioi"], "tokens_per_step": 1}
    chosen |= {"device": "cpu", "store": str(tmp_path / "store")}
    chapters = {bos: open_chapter(**chosen, prepend_bos=bos) for bos in (False, True)}
    model = chapters[True].suite.checkpoint("run", 1).load()
    assert get_task("ioi").prompts(model.tokenizer, 3).prepend_bos
    assert not get_task("ioi").prompts(model.tokenizer, 3, prepend_bos=False).prepend_bos
    plain, with_bos = (chapters[bos].answers["metric"] for bos in (False, True))
    assert (plain != with_bos).mean() > 0.9
    (folder / "suite.json").write_text('{"prepend_bos": true}')
    assert open_chapter(**chosen).answers["metric"].equals(with_bos)


def test_prepend_bos_needs_one_and_is_in_the_key():
    with pytest.raises(ValueError, match="ioi: .* has no begin-of-sequence token .* prepend_bos"):
        get_task("ioi").prompts(by_hand.byte_level(), 4, prepend_bos=True)
    with pytest.raises(TypeError, match="no option 'bos'; its options are corruption, prepend_bos"):
        get_task("ioi").prompts(by_hand.byte_level(), 4, bos=True)
    asked = [
        measurement_key("abilities", code=answers_to, task=get_task("ioi"), n=4, **options)
        for options in ({}, {"prepend_bos": True})
    ]
    assert asked[0] != asked[1]
