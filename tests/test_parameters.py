"""Parameters: text until their type is known, and every mistake one line."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import sampled_from as of
from nbformat.v4 import new_code_cell, new_notebook

from circuitbook.paths import PACKAGE
from circuitbook.publishing.errors import BuildError
from circuitbook.publishing.execute import read_notebook
from circuitbook.publishing.typed import from_here, parse_parameters
from circuitbook.recipes import get_recipe
from circuitbook.studies.chapter import open_chapter
from circuitbook.studies.parameters import select
from circuitbook.sweep.shards import plan

LIKE_OTHERS = ["/data/run #3", "007", "on", "no", "1e3", "2024-01-01", "12:30", "null", "~", "a: b"]
CHAPTERS = [
    read_notebook(file) for file in sorted((PACKAGE.parents[1] / "notebooks").glob("*.ipynb"))
]


def asks_for(cell):
    return new_notebook(cells=[new_code_cell(cell, metadata={"tags": ["parameters"]})])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A suite whose models have names that look like something else; nothing in it is loaded."""
    root = tmp_path_factory.mktemp("suite")
    for model in ("m", "n", "007", "on", "a,b"):
        for step in (1, 10, 20):
            (root / model / f"step{step}").mkdir(parents=True)
            (root / model / f"step{step}" / "config.json").write_text("{}")
            weights = f"{model} {step}"
            (root / model / f"step{step}" / "model.safetensors").write_text(weights)
    (root / "suite.json").write_text(json.dumps({"tokens_per_step": 8}))
    return root


@pytest.mark.parametrize("name", ["SUITE", "STORE", "TEXT", "FOLDER", "RECORD", "MODEL"])
@pytest.mark.parametrize("text", LIKE_OTHERS)
def test_text_is_not_changed_where_text_is_wanted(name, text):
    assert parse_parameters([f"{name}={text}"]) == {name: text}
    assert parse_parameters([f"{name}={text}"], CHAPTERS) == {name: text}
    assert parse_parameters([f"WHERE={text}"], [asks_for("WHERE = 'here'")]) == {"WHERE": text}


def test_names_in_lists_are_not_changed_either():
    typed = f"[{', '.join(LIKE_OTHERS)}]"
    for name in ("MODELS", "TASKS", "SEEDS"):
        assert parse_parameters([f"{name}={typed}"], CHAPTERS) == {name: LIKE_OTHERS}
    assert parse_parameters(["MODELS=('a', \"b,c\",)"]) == {"MODELS": ["a", "b,c"]}
    assert parse_parameters(["MODELS=a,b", "SEEDS=a"]) == {"MODELS": ["a", "b"], "SEEDS": "a"}


def test_the_notebooks_default_tells_the_type():
    cell = "N = 1\nRATE = 0.5\nBOS = False\nNAME = 'a'\nNAMES = ['a']\nOPEN = None"
    typed = ["N=1e3", "RATE=3", "BOS=on", "NAME=12", "NAMES=12, 13", "OPEN=[1, b]"]
    assert parse_parameters(typed, [asks_for(cell)]) == {
        "N": 1000, "RATE": 3, "BOS": True, "NAME": "12", "NAMES": ["12", "13"], "OPEN": [1, "b"],
    }  # fmt: skip
    assert isinstance(parse_parameters(["N=1e3"], [asks_for(cell)])["N"], int)
    nothing = [f"{name}=None" for name in ("N", "BOS", "NAME", "NAMES", "OPEN")]
    assert set(parse_parameters(nothing, [asks_for(cell)]).values()) == {None}
    # what two notebooks want differently is read by itself
    either = [asks_for("N = 1"), asks_for("N = 'few'")]
    typed = ["few", "20", "{ioi: 5}", "007"]
    read = [parse_parameters([f"N={text}"], either)["N"] for text in typed]
    assert read == ["few", 20, {"ioi": 5}, "007"]
    for wrong in ("N=many", "N=inf", "BOS=maybe", "RATE=1/2", "STEPS=[paper]"):
        with pytest.raises(BuildError, match=rf"the parameter {wrong.split('=')[0]} takes .*, not"):
            parse_parameters([wrong], [asks_for(cell)])


def test_paths_are_meant_as_seen_from_where_one_stands(tmp_path, monkeypatch):
    """Notebooks run in the book's folder, which may be another one."""
    here, root = tmp_path / "here", tmp_path / "root"
    for folder in (here / "runs", here / "smollm2", root / "old"):
        folder.mkdir(parents=True)
    (here / "text.txt").touch()
    (root / "there.txt").touch()
    monkeypatch.chdir(here)
    given = {
        "SUITE": "runs", "TEXT": "./text.txt", "STORE": "new", "RECORD": "../here/text.txt",
        "REAL": "smollm2", "MODEL": "runs", "N": 2,
    }  # fmt: skip
    assert from_here(given, root) == given | {
        "SUITE": str(here / "runs"), "TEXT": str(here / "text.txt"), "STORE": str(here / "new"),
        "RECORD": str(here / "text.txt"),
    }  # fmt: skip
    for meant in ({"TEXT": "there.txt", "STORE": "old", "SUITE": "owner/name"}, {"TEXT": None}):
        assert from_here(meant, root) == meant
    assert from_here(given, here) == given


def test_steps_are_numbers_or_a_schedule():
    typed = ["[0, 512]", "0,512", "512", "[1e3]", "paper", "", "[]"]
    read = [parse_parameters([f"STEPS={text}"], CHAPTERS)["STEPS"] for text in typed]
    assert read == [[0, 512], [0, 512], 512, [1000], "paper", None, []]


def test_what_is_named_twice_counts_once(folder, tmp_path):
    chosen = select(str(folder), ["n", "m", "n"], [10, 1, 10.0], ["ioi", "sva", "ioi"])
    assert chosen.models == ("n", "m") and chosen.tasks == ("ioi", "sva")
    assert chosen.steps == {"n": (1, 10), "m": (1, 10)}
    shards = plan(tmp_path, tmp_path, tmp_path, chosen, ("abilities",), {}, per_shard=1)
    assert len({shard.record for shard in shards}) == len(shards) == 4


def test_lists_may_be_text(folder):
    for models in ("n,m", "[n, m]", "['n', 'm']", ["n,m"], ("n", "m")):
        assert select(str(folder), models).models == ("n", "m"), models
    assert select(str(folder), "a,b").models == ("a,b",)  # there is such a model
    assert set(select(str(folder), ["all"]).models) == {"m", "n", "007", "on", "a,b"}
    for steps in ("10,1", "[1, 10]", ["1", "10"], ["1,10"]):
        assert select(str(folder), "m", steps).steps == {"m": (1, 10)}, steps
    assert select(str(folder), "m", tasks="ioi,sva").tasks == ("ioi", "sva")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": []}, "no models are named: MODELS takes at least one"),
        ({"models": "[]"}, "no models are named"),
        ({"steps": []}, "no steps are named: STEPS takes at least one"),
        ({"tasks": []}, "no tasks are named"),
        ({"models": {"m": 1}}, "MODELS is a list"),
        ({"models": [["m"]]}, r"MODELS names \['m'\]"),
        ({"models": 7}, "model 7 is unknown"),
        ({"steps": True}, "STEPS names True"),
        ({"steps": [10, float("nan")]}, "step nan of"),
        ({"models": "m", "steps": [10, 15]}, "step 15 of m does not exist; nearest are 10 and 20"),
        ({"steps": "often"}, "schedule 'often' is unknown"),
        ({"tokens_per_step": "2048"}, "TOKENS_PER_STEP is '2048'"),
        ({"tokens_per_step": 0}, "TOKENS_PER_STEP is 0"),
        ({"tokens_per_step": True}, "TOKENS_PER_STEP is True"),
        ({"tokens_per_step": float("inf")}, "TOKENS_PER_STEP is inf"),
        ({"prepend_bos": "False"}, "PREPEND_BOS is True or False, not 'False'"),
        ({"suite": None}, "SUITE is the name of a suite, or a folder, not None"),
        ({"suite": ""}, "SUITE is the name"),
        ({"suite": "x" * 5000}, "is unknown"),
        ({"suite": "~nobody-of-that-name/x"}, "is unknown"),
        ({"dtype": ["float32"]}, "unknown dtype"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not available"),
    ],
)
def test_a_wrong_parameter_is_named(folder, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        select(**{"suite": str(folder), **change})
    assert len(str(caught.value).splitlines()) == 1


def test_a_store_or_a_text_that_is_no_path_is_named(folder):
    for name, wrong in (("store", 5), ("text", ["a"])):
        with pytest.raises(ValueError, match=f"{name.upper()} is a path, or None, not"):
            open_chapter(suite=str(folder), **{name: wrong})


@pytest.mark.parametrize("prompts", [1, 0, -3, True, 1.5, "many", [], {"ioi": 1}, {"ioi": "9"}])
def test_too_few_prompts_are_refused_with_the_number_that_is_needed(folder, prompts):
    with pytest.raises(ValueError, match="a whole number from 2 on is needed") as caught:
        open_chapter(suite=str(folder), prompts=prompts)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ValueError, match="task 'sums' does not exist"):
        open_chapter(suite=str(folder), prompts={"sums": 5})
    assert open_chapter(suite=str(folder), prompts={"Greater-Than": 5}).recipe.prompts == (
        get_recipe("robust").prompts | {"greater_than": 5}
    )


def test_shards_that_would_write_the_same_files_are_refused(tmp_path):
    for model, step in (("m", 1), ("m", 5), ("m-1", 5)):
        (tmp_path / model / f"step{step}").mkdir(parents=True)
        (tmp_path / model / f"step{step}" / "config.json").write_text("{}")
        (tmp_path / model / f"step{step}" / "model.safetensors").write_text(f"{model}{step}")
    (tmp_path / "suite.json").write_text(json.dumps({"tokens_per_step": 8}))
    chosen = select(str(tmp_path), keep_doubles=True)
    with pytest.raises(ValueError, match="would both be called m-1-5, and write the same files"):
        plan(tmp_path, tmp_path, tmp_path, chosen, ("abilities",), {})


WORDS = [
    *LIKE_OTHERS, "m", "n", "a,b", "m,n", "all", "None", "", "[]", "[m, n]", "[m, m]", "(m,)",
    "[10, 10]", "1,10", "10", "1e1", "-1", "True", "nan", "inf", "[[1]]", "[1, [2, 3]]", "{",
    "{a: 1}", "{a: &x [*x]}", "[", "'", "\"m\"", "ioi", "[ioi, sva]", "sva,ioi,sva", "paper",
    "float32", "cpu", "cuda:7", "x" * 3000, "\0", "a\nb", "é", "!!python/name:os.system",
    "~", "~nobody-at-all/x", "=", "\\", "9" * 5000, "[" * 300, "{a: " * 300, "0x10", "b'm'",
]  # fmt: skip
VALUES = [
    None, True, 0, 1, 10, 10.0, 1.5, float("nan"), float("inf"), 10**30, b"m", "m", "m,n", [],
    [[]], {}, {"m": 1}, ["m", "m"], [1, 10, 1], ["1"], [None], (10, "a"), {"m"}, object(), 3j,
]  # fmt: skip
RIGHT = {
    "MODELS": ["m", "[m, n]", "m,m", "[007, on]", "'a,b'", "all"],
    "STEPS": ["10", "[1, 10, 10]", "1,10", "all", "[1e1]"],
    "TASKS": ["ioi", "[ioi, sva]", "sva,ioi,sva", "all"],
    "DEVICE": ["cpu", "auto"],
    "DTYPE": ["float64"],
    "TOKENS_PER_STEP": ["2048", "2e3"],
    "PREPEND_BOS": ["true", "False"],
}
local = st.text(max_size=12).filter(lambda text: "/" not in text)  # what asks no hub
words = of(WORDS) | local | st.builds("[{}, {}]".format, of(WORDS), of(WORDS) | local)


@st.composite
def typed_assignments(draw):
    """NAME=VALUE, of some names, as somebody types them: all of them right, or some."""
    names, right = draw(st.sets(of([*RIGHT, "SUITE"]), min_size=1, max_size=3)), draw(st.booleans())
    value = lambda name: of(RIGHT.get(name, ["m"])) if right or draw(st.booleans()) else words  # noqa: E731
    return [(name, draw(value(name))) for name in sorted(names) if name in RIGHT or not right]


# what a notebook may pass besides, in one draw of three
passed = of([0, 0, 1]).flatmap(lambda n: st.dictionaries(of([*RIGHT]), of(VALUES), max_size=n))


def test_any_parameters_end_in_a_selection_or_one_line(folder):
    """Whatever is typed, or put into a notebook."""
    said = Counter()

    @settings(max_examples=400, derandomize=True, deadline=None)
    @given(typed_assignments(), passed, of([True, False]))
    def check(typed, values, with_chapters):
        items = [f"{name}={text}" for name, text in typed]
        try:
            given = parse_parameters(items, CHAPTERS if with_chapters else []) | values
            given = {name: value for name, value in given.items() if value is not None}
            given = {"SUITE": str(folder)} | given
            chosen = select(**{name.lower(): value for name, value in given.items()})
        except (ValueError, BuildError) as error:
            assert len(str(error).splitlines()) == 1, error
            said["refused"] += 1
        else:
            assert chosen.models and all(chosen.steps.values())
            assert len(set(chosen.models)) == len(chosen.models)
            said["succeeded"] += 1

    check()
    assert said["succeeded"] > 100 and said["refused"] > 150, said
