"""What figures promise: a model looks the same everywhere, and step 0 is on the axis."""

import urllib.parse
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from circuitbook.figures.abilities import ability_panels
from circuitbook.figures.heads import head_lines, kind_panels
from circuitbook.figures.showing import show
from circuitbook.figures.style import (
    CURVES,
    GROUNDS,
    MINI,
    PYTHIA,
    model_style,
    tokens_axis,
    use_style,
)
from circuitbook.records.published import TABLES, published
from circuitbook.suites.names import base_model


def luminance(colour):
    """WCAG 2.2's relative luminance."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
        for v in matplotlib.colors.to_rgb(colour)
    ]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def contrast(first, second):
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_wcags():
    assert contrast("white", "black") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize("ground", GROUNDS)
def test_curves_stand_out_from_both_grounds(ground):
    styles = [model_style(name) for name in (*MINI, *PYTHIA, "mini-xs-seed2")]
    styles += [model_style(name, ("a", "b", "c")) for name in "abc"]
    assert min(contrast(style["color"][:3], ground) for style in styles) >= 3
    assert min(contrast(colour, ground) for colour in CURVES) >= 3
    assert len(set(CURVES)) == len(CURVES)


def test_the_grounds_are_the_pages():
    style = (Path(__file__).parents[1] / "book/_static/custom.css").read_text()
    assert f"background-color: {GROUNDS[1]}" in style


@pytest.mark.parametrize("family", [MINI, PYTHIA])
def test_larger_models_are_darker_so_that_greyscale_tells_them_apart(family):
    styles = [model_style(name) for name in family]
    steps = np.diff([luminance(s["color"]) for s in styles])
    assert (steps < -0.008).all()
    assert len({s["marker"] for s in styles}) == len(family)


def test_a_seed_has_its_models_colour_and_another_line():
    base, seed = model_style("mini-m"), model_style("mini-m-seed2")
    assert base["color"] == seed["color"] and "linestyle" in seed and "marker" not in seed
    lines = [model_style(f"mini-m-seed{n}")["linestyle"] for n in (2, 3, 4)]
    assert len(set(lines)) == 3 and seed["linestyle"] == lines[0]
    assert (
        base_model("pythia-160m-data-seed3")
        == base_model("pythia-160m-hiddendropout")
        == "pythia-160m"
    )
    assert base_model("pythia-1.4b") == "pythia-1.4b"


def test_axis_has_room_for_step_zero():
    _, ax = plt.subplots()
    tokens_axis(ax, [0, 1e5, 1e6, 8e6])
    ax.figure.canvas.draw()
    place = [ax.transData.transform((x, 0))[0] for x in (0, 1e5, 1e6, 8e6)]
    left, right = ax.get_window_extent().x0, ax.get_window_extent().x1
    assert left <= place[0] < place[1] < place[2] < place[3] <= right
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "100k", "300k", "1M", "3M"]
    plt.close("all")


def test_panels_draw_what_they_are_given():
    curves = pd.DataFrame(
        [
            {"model": m, "task": t, "tokens_seen": x, "mean": x * k, "low": 0, "high": 1}
            for k, m in enumerate(MINI)
            for t in ("ioi", "sva")
            for x in (0, 10, 100)
        ]
    )
    with matplotlib.rc_context():
        use_style()
        fig = ability_panels(curves, ["ioi", "sva"], list(MINI), {"ioi": "x", "sva": "y"})
    first, second = fig.axes[:2]
    assert (
        first.get_title(loc="left") == "Indirect Object Identification"
        and second.get_ylabel() == "y"
    )
    drawn = [line.get_ydata() for line in first.lines if len(line.get_xdata()) == 3]
    assert [list(y) for y in drawn] == [[0, 10 * k, 100 * k] for k in range(4)]
    plt.close("all")


def test_a_place_without_a_panel_stays_empty_and_the_legend_knows_all_models():
    table = pd.DataFrame({(0, 0): [0.1, 0.5], (0, 1): [0.2, 0.9]}, index=[0, 10])
    fig = head_lines(
        dict.fromkeys("abc", table), dict.fromkeys("abc", "title"), dict.fromkeys("abc", [(0, 1)])
    )
    assert [ax.axison for ax in fig.axes] == [True, True, True, False]
    frame = pd.DataFrame({"tokens_seen": [0, 10], "score": [0.1, 0.4]})
    curves = {"a": {"mini-xs": frame}, "b": {}, "c": {"mini-s": frame, "mini-xs": frame}}
    fig = kind_panels(curves, dict.fromkeys("abc", "title"), models=["mini-s", "mini-xs", "mini-l"])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["mini-s", "mini-xs"]
    assert fig.axes[1].texts[0].get_text() == "no such head in any model"
    plt.close("all")


def test_published_tables_are_the_papers():
    table = published("task_performance")
    assert set(table["model"]) == {"pythia-410m", "pythia-2.8b"} and len(table) == 54
    last = table[(table["model"] == "pythia-2.8b") & (table["step"] == 143000)].iloc[0]
    assert last["tokens_seen"] == 299_892_736_000 and last["value"] == 3.671875
    assert table["source"].str.len().min() > 10
    with pytest.raises(ValueError, match="no published table 'x'.*task_performance"):
        published("x")
    assert TABLES


def test_a_shown_figure_is_an_image_with_its_text(monkeypatch):
    seen = []
    monkeypatch.setattr("circuitbook.figures.showing.display", seen.append)
    fig, ax = plt.subplots()
    ax.plot([0, 1], [2, 3])
    show(fig, 'Curves that "rise"')
    page = seen[0].data
    assert 'alt="Curves that &quot;rise&quot;"' in page and page.startswith("<img")
    drawing = urllib.parse.unquote(page.split("data:image/svg+xml,")[1].split('"')[0])
    assert drawing.endswith("</svg>") and ET.fromstring(drawing).tag.endswith("}svg")
    assert not plt.get_fignums()


def test_models_of_two_suites_in_one_figure_differ():
    family = ("mini-xs", "tiny-llama", "tiny-llama-seed2")
    first, second, seed = (model_style(name, family) for name in family)
    assert (
        first["color"] != second["color"] == seed["color"] and first["marker"] != second["marker"]
    )
    assert (
        model_style("mini-m", ("mini-m", "mini-xs"))
        == model_style("mini-m")
        != model_style("mini-xs")
    )
