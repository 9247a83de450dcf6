"""Births and deaths of edges: by hand, and against a loop over every history."""

import numpy as np
import pytest
from histories import GRAPH, result

from circuitbook.figures.lives import births_and_deaths
from circuitbook.studies.findings.lives import all_lives_in_words, lives_in_words, lives_of
from circuitbook.studies.lives import NEVER, lives, summary

A, B, C = "input->m0", "m0->logits", "m1->logits"


def history():
    """Two draws over four checkpoints, the second without a circuit."""
    return [
        result(1, [A], [[A], [A]]),
        result(2, None),
        result(4, [A, B], [[A, B], [A]]),
        result(8, [B, C], [[B, C], [A, B]]),
    ]


def test_births_deaths_and_shares_by_hand():
    (one,) = lives(history())
    assert one.edges == (A, B, C) and one.tokens.tolist() == [1000, 4000, 8000]
    assert one.share.tolist() == [[1, 1, 0.5], [0, 0.5, 1], [0, 0, 0.5]]
    assert one.born.tolist() == [[0, 1, 2], [0, 2, NEVER]]
    assert one.last.tolist() == [[1, 2, 2], [2, 2, NEVER]]
    assert one.births.tolist() == [[1, 1, 1], [1, 0, 1]]
    assert one.deaths.tolist() == [[0, 0, 1], [0, 0, 0]]
    row = one.table.set_index("edge").loc[B]
    assert row.tolist() == [1.0, 4000, 4000, 8000, 8000, 8000, 8000]
    assert one.table.set_index("edge").loc[C, "draws"] == 0.5
    told = summary(one)
    assert told["ever"] == 2.5 and told["founders"] == 0.25 and told["returned"] == 0
    assert told["always"] == 0.25  # A, of two edges, in the second draw
    assert told["visitors"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert (told["founders_low"], told["founders_high"]) == (0, 0.5)


def test_equals_a_loop_over_every_history():
    rng = np.random.default_rng(0)
    names = rng.permutation(GRAPH.edge_names)[:12].tolist()
    steps, draws = (1, 2, 4, 8, 16), 5
    present = rng.random((draws, len(names), len(steps))) < 0.5
    results = [
        result(
            step,
            names,
            [[name for e, name in enumerate(names) if present[d, e, t]] for d in range(draws)],
        )
        for t, step in enumerate(steps)
    ]
    (one,) = lives(results)
    births, deaths = np.zeros((2, draws, len(steps)), int)
    returned = visitors = 0.0
    for d in range(draws):
        ever = spells_above_one = once = 0
        for e in range(len(names)):
            inside = [t for t in range(len(steps)) if present[d, e, t]]
            if not inside:
                continue
            ever += 1
            births[d, inside[0]] += 1
            if inside[-1] + 1 < len(steps):
                deaths[d, inside[-1] + 1] += 1
            once += len(inside) == 1
            spells_above_one += inside != list(range(inside[0], inside[-1] + 1))
        returned += spells_above_one / ever / draws
        visitors += once / ever / draws
    assert (one.births == births).all() and (one.deaths == deaths).all()
    told = summary(one)
    assert told["returned"] == pytest.approx(returned)
    assert told["visitors"] == pytest.approx(visitors)
    row = {name: e for e, name in enumerate(one.edges)}
    for e, name in enumerate(names):
        if present[:, e].any():
            assert (one.present[:, row[name]] == present[:, e]).all()


def test_one_checkpoint_and_no_resampled_prompts_tell_no_history():
    assert lives([result(1, [A], [[A]])]) == []
    assert lives([result(1, [A]), result(2, [A])]) == []
    assert lives([]) == []


def test_what_is_said_goes_with_the_histories():
    (one,) = lives(history())
    said = lives_in_words(one)
    assert "Of the 2 edges that are ever in the IOI circuit of m, 25% are in it at every" in said
    assert "42% [33%, 50%] at one alone" in said
    stays = lives([result(step, [A, B], [[A, B], [A, B]], model="n") for step in (1, 2)])
    assert "100% are in it at every checkpoint, and 0% [0%, 0%]" in lives_in_words(stays[0])
    both = all_lives_in_words([one, *stays], ["m", "n"])
    assert "Over all 2 circuits" in both and "from 25% to 100% (median 62%)" in both
    assert all_lives_in_words([one, *stays], ["m"]) == ""
    assert lives_of([one, *stays], "n", "ioi") is stays[0] and lives_of([one], "n", "ioi") is None


def test_the_figure_shows_the_longest_lives_and_what_comes_and_goes():
    (one,) = lives(history())
    figure = births_and_deaths(one, most=2)
    above, below = figure.axes[:2]
    assert [text.get_text() for text in below.get_yticklabels()] == ["input → m0", "m0 → logits"]
    assert below.images[0].get_array().tolist() == one.share[:2].tolist()
    heights = [bar.get_height() for bar in above.patches]
    assert heights == [1, 0.5, 1, 0, 0, -0.5]
