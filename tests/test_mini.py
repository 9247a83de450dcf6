"""The story language, its tokenizer and the training of the mini suite."""

import re
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from circuitbook.mini import train as training
from circuitbook.mini.tokenizer import UNK, build_tokenizer, split, vocabulary
from circuitbook.mini.train import PLANS, Plan, learning_rate, train
from circuitbook.tasks.lexicon import STORIES, held_out, held_out_pair, held_out_tag
from circuitbook.tasks.stories.documents import document
from circuitbook.tasks.stories.repetition import names_in
from circuitbook.tasks.stories.world import FEMALE, World


@pytest.fixture(scope="module")
def documents():
    rng = World(99)
    return [document(rng) for _ in range(3000)]


def test_held_out_names_never_meet(documents):
    met = {tuple(sorted(p)) for d in documents for p in combinations(names_in(d), 2)}
    all_pairs = {tuple(sorted(p)) for p in combinations(STORIES.people, 2)}
    kept_apart = {p for p in all_pairs if held_out_pair(*p)}
    assert 0.15 < len(kept_apart) / len(all_pairs) < 0.25
    assert not met & kept_apart
    assert len(met) > 0.9 * len(all_pairs - kept_apart)  # and the others do meet


def test_held_out_spans_never_start(documents):
    starts = {
        (m[1], m[2]) for d in documents for m in re.finditer(r"year (\d\d)(\d\d) (?:to|and)", d)
    }
    assert len(starts) > 400
    assert not {s for s in starts if held_out("span", *s)}


def test_years_go_forward(documents):
    spans = [
        (int(m[1]), int(m[2]))
        for d in documents
        for m in re.finditer(r"from the year (\d{4}) to the year (\d{4})", d)
    ]
    assert len(spans) > 500 and all(a < b for a, b in spans)


def test_tag_questions_leave_out_half_of_the_names_and_agree(documents):
    tags = [
        (m[1], m[2])
        for d in documents
        for m in re.finditer(r"So (\w+) (?:is|was) [\w ]+, \w+n't (he|she)\?", d)
    ]
    assert len(tags) > 200
    assert not any(held_out_tag(name) for name, _ in tags)
    assert all((pronoun == "she") == (name in FEMALE) for name, pronoun in tags)
    assert sum(held_out_tag(name) for name in STORIES.female + STORIES.male) == 10


def test_verbs_agree_across_held_in_attractors_only(documents):
    singular = {n[0]: (n[0], 0) for n in STORIES.humans + STORIES.things}
    number = singular | {n[1]: (n[0], 1) for n in STORIES.humans + STORIES.things}
    verbs = {v[k]: k for v in STORIES.verbs for k in (0, 1)}
    seen = 0
    for d in documents:
        for m in re.finditer(r"The (\w+) (?:near|behind|beside) the (\w+) (\w+)", d):
            if m[1] in number and m[2] in number and m[3] in verbs:
                (lemma, plural), (attractor, _) = number[m[1]], number[m[2]]
                seen += 1
                assert verbs[m[3]] == plural, m[0]
                assert not held_out("attractor", lemma, attractor), m[0]
    assert seen > 100


def test_the_papers_ioi_frames_are_not_in_the_text(documents):
    frames = (
        r"Then, \w+ and \w+ went to the \w+\. \w+ gave a",
        r"Then, \w+ and \w+ had a lot of fun at the \w+\. \w+ gave a",
        r"Then, \w+ and \w+ were working at the \w+\. \w+ decided to give a",
        r"thinking about going to the \w+\. \w+ wanted to give a",
        r"argument, and afterwards \w+ said to",
        r"After \w+ and \w+ went to the \w+, \w+ gave a",
        r"got a \w+ at the \w+, \w+ decided to give it",
    )
    text = "\n".join(documents)
    assert not [f for f in frames if re.search(f, text)]
    halves = (
        r"Then, \w+ and \w+ went to the",
        r"argument, and afterwards \w+ ",
        r" gave a \w+ to",
        r" decided to give it to",
    )
    assert all(re.search(h, text) for h in halves)


def test_tokenizer_round_trips_and_equals_the_quick_splitter(documents, tmp_path):
    from transformers import AutoTokenizer

    build_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for text in documents[:400]:
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text
        assert tokenizer.convert_ids_to_tokens(ids) == split(text)
        assert tokenizer.unk_token_id not in ids
    assert split(" 1732 isn't") == [" 17", "32", " isn", "'t"]
    assert tokenizer("zebra").input_ids == [tokenizer.convert_tokens_to_ids(UNK)]
    assert tokenizer.init_kwargs["lexicon"] == "stories"
    assert len(set(vocabulary())) == len(vocabulary()) == len(tokenizer)


TOY = Plan(layers=2, width=16, heads=2, lr=1e-2, steps=11, warmup=3, checkpoints=(0, 4, 8, 11))


def weights(folder):
    from safetensors.torch import load_file

    return {
        step: load_file(folder / f"step{step}" / "model.safetensors") for step in TOY.checkpoints
    }


def test_training_repeats_bit_for_bit_and_survives_interruption(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    try:
        once = train("toy", TOY, tmp_path / "a", tmp_path / "state_a", progress=False)
        whole = training.batch

        def stops_at(step):
            def batch(seed, k):
                if k == step:
                    raise KeyboardInterrupt
                return whole(seed, k)

            return batch

        for step in (5, 9, 10):
            monkeypatch.setattr(training, "batch", stops_at(step))
            with pytest.raises(KeyboardInterrupt):
                train("toy", TOY, tmp_path / "b", tmp_path / "state_b", progress=False)
        monkeypatch.setattr(training, "batch", whole)
        again = train("toy", TOY, tmp_path / "b", tmp_path / "state_b", progress=False)
    finally:
        torch.set_num_threads(threads)
    assert (once / "losses.json").read_text() == (again / "losses.json").read_text()
    first, second = weights(once), weights(again)
    for step in TOY.checkpoints:
        assert all(torch.equal(first[step][k], second[step][k]) for k in first[step])
    assert any(not torch.equal(first[0][k], first[11][k]) for k in first[0])
    other = train("toy", replace(TOY, seed=2), tmp_path / "c", tmp_path / "state_c", progress=False)
    assert any(not torch.equal(first[0][k], w) for k, w in weights(other)[0].items())


def test_a_state_of_another_plan_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 3)
    monkeypatch.setattr(
        training,
        "batch",
        lambda seed, step: (_ for _ in ()).throw(KeyboardInterrupt)
        if step == 4
        else torch.zeros(32, 64, dtype=torch.long),
    )
    with pytest.raises(KeyboardInterrupt):
        train("toy", TOY, tmp_path, tmp_path / "state", progress=False)
    with pytest.raises(ValueError, match="another run of toy"):
        train("toy", replace(TOY, lr=1e-3), tmp_path, tmp_path / "state", progress=False)


def test_learning_rate_warms_up_and_ends_at_a_tenth():
    plan = PLANS["mini-m"]
    rates = [learning_rate(plan, s) for s in range(plan.steps)]
    assert rates[0] == pytest.approx(plan.lr / 100) and max(rates) == pytest.approx(plan.lr)
    assert rates[-1] == pytest.approx(plan.lr / 10, rel=0.01)
