"""Student and instructor versions: nothing leaks, both are valid, and an unsolved student version
runs."""

import ast
import re
import shutil
import subprocess
import types
from pathlib import Path

import nbformat
import pytest

from circuitbook.__main__ import main
from circuitbook.publishing.execute import execute_notebook
from circuitbook.teaching import exercises, lab
from circuitbook.teaching.checking import Feedback
from circuitbook.teaching.course import (
    CHECKED,
    LEFT_OUT,
    make_versions,
    switched_off,
    tags_of,
    version_of,
)
from circuitbook.teaching.exercises.common import CHECKS
from circuitbook.teaching.numbers import labels_of
from circuitbook.teaching.plain_markdown import plain_markdown

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = (
    "abilities",
    "circuits",
    "circuits-over-training",
    "components",
    "after-formation",
    "algorithm",
    "real-model",
    "stability",
)


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    out = tmp_path_factory.mktemp("teach")
    return out, make_versions(ROOT, out)


def source_of(name):
    return nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)


def test_every_chapter_has_both_versions_valid_and_without_outputs(versions):
    out, written = versions
    assert {(path.parent.name, path.stem) for path in written} >= {
        (v, c) for v in ("student", "instructor") for c in CHAPTERS
    }
    for path in written:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert not any(
            cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells
        )


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_line_of_a_solution_or_note_is_in_the_student_version(versions, name):
    source, secret = source_of(name), []
    for cell in source.cells:
        if {"solution", "instructor"} & set(tags_of(cell)):
            secret += [line.strip() for line in cell.source.splitlines()]
    student = (versions[0] / "student" / f"{name}.ipynb").read_text()
    open_lines = {
        line.strip()
        for cell in source.cells
        if not {"solution", "instructor"} & set(tags_of(cell))
        for line in cell.source.splitlines()
    }
    telling = [line for line in secret if len(line) > 15 and line not in open_lines]
    assert len(telling) > 10
    shown = "\n".join(cell.source for cell in nbformat.reads(student, as_version=4).cells)
    assert not [line for line in telling if line in shown]
    assert "For instructors" not in student and "olution" not in re.sub(
        "Solution to|resolution", "", shown
    )
    full = "\n".join(
        cell.source
        for cell in nbformat.read(versions[0] / "instructor" / f"{name}.ipynb", as_version=4).cells
    )
    assert "For instructors" in full and all(
        line in full for line in telling if not re.search(r"[{`$:]", line)
    )


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name != "real-model"])  # no checks
def test_unsolved_stubs_say_so_and_raise_nothing(name):
    stubs = [
        cell.source
        for cell in version_of(source_of(name), "student").cells
        if "exercise" in tags_of(cell)
    ]
    assert stubs
    for stub in stubs:
        *lines, call = stub.splitlines()
        space = {"exercises": exercises}
        exec("\n".join(lines), space)
        verdict = eval(call, space)
        assert (
            isinstance(verdict, Feedback)
            and verdict.right is None
            and repr(verdict).startswith("Not solved yet: ")
        )


@pytest.mark.slow
def test_a_student_version_runs_from_top_to_bottom(versions, tmp_path):
    few = {
        "MODELS": ["mini-xs"],
        "STEPS": [0, 3906],
        "PROMPTS": 20,
        "STORE": str(tmp_path / "store"),
    }
    done = execute_notebook(
        versions[0] / "student" / "abilities.ipynb", tmp_path / "done.ipynb", few, root=ROOT
    )
    said = [
        output.data["text/plain"]
        for cell in done.cells
        if "exercise" in tags_of(cell)
        for output in cell.outputs
    ]
    assert len(said) == 2 and all(text.startswith("Not solved yet") for text in said)


@pytest.mark.parametrize("name", CHAPTERS)
def test_the_sources_tags_say_what_is_what(name):
    """Each exercise is answered; what opens a solution closes it; notes are hidden from the book
    twice over."""
    cells = source_of(name).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    asked = re.findall(r":::\{exercise\}.*\n:label: (\S+)", text)
    answered = re.findall(r":::\{solution(?:-start)?\} (\S+)", text)
    assert 2 <= len(asked) == len(set(asked)) and asked == answered
    assert text.count("{solution-start}") == text.count("{solution-end}")
    inside = False
    for cell in cells:
        inside = inside or "{solution-start}" in cell.source or "{solution}" in cell.source
        assert ("solution" in tags_of(cell)) == inside, cell.source[:80]
        inside = inside and "{solution-end}" not in cell.source and "{solution}" not in cell.source
        if "instructor" in tags_of(cell):
            assert cell.cell_type == "markdown" and "remove-cell" in tags_of(cell)


def test_plain_markdown_reads_without_the_book():
    titles = {"circuits": "What is a circuit?"}
    text = (
        ":::{exercise} Two ways\n:label: a-b\n\nSee {doc}`/notebooks/circuits`, "
        "{doc}`there </notebooks/circuits>`, {doc}`/book/index`.\n:::"
    )
    assert plain_markdown(text, {"a-b": "3"}, titles) == (
        "### Exercise 3: Two ways\n\n"
        "See [What is a circuit?](circuits.ipynb), [there](circuits.ipynb), index."
    )
    assert (
        plain_markdown(":::{solution} a-b\n:class: dropdown\n\nSo.\n:::", {"a-b": "3"}, {})
        == "**Solution to exercise 3**\n\nSo."
    )
    assert plain_markdown(
        ":::{prediction} size\nHow many {term}`edges <edge>`?\n- few\n:::\n\nThen.\n\n"
        ":::{answer} size\nFew.\n:::",
        {},
        {},
    ) == (
        "**A prediction to make now.** How many edges?\n- few\n\nThen.\n\n"
        "<details><summary>I have made my guess</summary>\n\nFew.\n\n</details>"
    )
    assert plain_markdown(
        "{term}`heads <head>`, {term}`edge`, {cite:t}`tigges2024llm`, {math}`x_1`", {}, {}
    ) == ("heads, edge, Tigges et al. (2024), $x_1$")
    assert (
        plain_markdown("```{math}\n:label: eap\nx = 1\n```", {}, {}) == "$$\nx = 1 \\tag{eap}\n$$"
    )
    assert plain_markdown(":::{more} Head by head\n:::\n\nHere.", {}, {}) == (
        "**Head by head**\n\nHere."
    )


def test_a_dropdown_folds_in_a_notebook_too():
    text = ":::{dropdown} How *it* is made\nSee {term}`edge`.\n:::"
    plain = "<details><summary>How *it* is made</summary>\n\nSee edge.\n\n</details>"
    assert plain_markdown(text, {}, {}) == plain


def test_plain_markdown_leaves_code_as_it_is_and_reads_directives_in_directives():
    code = "```text\n:::{solution} a\n{doc}`/x`\n:::\n```"
    inside = f"See {{term}}`edge`.\n\n```{{math}}\nx\n```\n\n{code}\n\nEnd."
    plain = f"See edge.\n\n$$\nx\n$$\n\n{code}\n\nEnd."
    assert plain_markdown(inside, {}, {}) == plain
    inside, plain = (
        text.replace(":::{solution} a\n", "").replace(":::\n", "") for text in (inside, plain)
    )
    asked = f":::{{exercise}} A\n:label: a\n\n{inside}\n:::\n\nAfter."
    assert plain_markdown(asked, {"a": "7"}, {}) == f"### Exercise 7: A\n\n{plain}\n\n\nAfter."


def test_exercises_are_numbered_by_chapter(versions):
    """As the book does, whatever the order of the chapters is: test_site compares with a built
    one."""
    shown = {}
    for name in CHAPTERS:
        text = (versions[0] / "student" / f"{name}.ipynb").read_text()
        shown[name] = re.findall(r"### Exercise (\d+)\.(\d+): ", text)
        count = len(labels_of(source_of(name)))
        assert [int(i) for _, i in shown[name]] == list(range(1, count + 1)) and count
        assert len({chapter for chapter, _ in shown[name]}) == 1
    assert len({numbers[0][0] for numbers in shown.values()}) == len(CHAPTERS)


def test_nothing_that_only_the_book_understands_is_left(versions):
    for path in versions[1]:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"\{[a-z:-]+\}`|^:::|```\{", cell.source, re.MULTILINE), (
                    f"{path.name}: {cell.source[:200]}"
                )


def test_the_book_never_shows_notes(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A"),
            nbformat.v4.new_code_cell("1 + 1", metadata={"tags": ["solution"]}),
            nbformat.v4.new_markdown_cell(
                "SECRET", metadata={"tags": ["instructor", "remove-cell"]}
            ),
        ]
    )
    nbformat.write(notebook, tmp_path / "a.ipynb")
    execute_notebook(tmp_path / "a.ipynb", tmp_path / "out.ipynb", root=tmp_path)
    assert (
        "SECRET" not in (tmp_path / "out.ipynb").read_text()
        and "1 + 1" in (tmp_path / "out.ipynb").read_text()
    )


def test_the_command_names_what_is_wrong(tmp_path, capsys):
    assert main(["teach", "circuits", "--root", str(ROOT), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "student/circuits.ipynb").exists() and not (
        tmp_path / "student/abilities.ipynb"
    ).exists()
    assert f"{tmp_path / 'student'}: circuits" in capsys.readouterr().out
    with pytest.raises(
        SystemExit,
        match="error: 'circuit' is not a notebook with exercises; there are: .*abilities, ",
    ):
        main(["teach", "circuit", "--root", str(ROOT), "--out", str(tmp_path)])
    with pytest.raises(
        SystemExit,
        match="error: there are no notebooks in .*notebooks: run this in the book's folder",
    ):
        main(["teach", "--root", str(tmp_path), "--out", str(tmp_path)])
    assert LEFT_OUT["instructor"] == ()


def cells_of(versions, version, name):
    return nbformat.read(versions[0] / version / f"{name}.ipynb", as_version=4).cells


@pytest.mark.parametrize("name", CHAPTERS)
def test_plumbing_is_folded_in_jupyter_and_colab(versions, name):
    """What the book folds is folded; parameters, stubs, and what the text is about are not."""
    folded = [
        cell
        for cell in cells_of(versions, "student", name)
        if cell.cell_type == "code" and cell.metadata.get("jupyter", {}).get("source_hidden")
    ]
    assert len(folded) > 3 and all(cell.metadata.get("cellView") == "form" for cell in folded)
    for cell in cells_of(versions, "student", name):
        if cell in folded:
            assert {"hide-input", "remove-cell", "remove-input"} & set(tags_of(cell))
            assert not {"parameters", "exercise", "slow"} & set(tags_of(cell))
        else:
            assert "cellView" not in cell.metadata


@pytest.mark.parametrize("name", CHAPTERS)
def test_stubs_fit_a_narrow_window(versions, name):
    for cell in cells_of(versions, "student", name):
        if "exercise" in tags_of(cell):
            assert all(len(line) < 80 for line in cell.source.splitlines()), cell.source


def test_slow_cells_are_off_for_students_and_nothing_else_needs_them(versions):
    student, instructor = (cells_of(versions, v, "circuits") for v in ("student", "instructor"))
    slow = [cell.source for cell in student if "slow" in tags_of(cell)]
    assert len(slow) == 2 and all(source.startswith("RUN = False  # ") for source in slow)
    assert not any("RUN = False" in cell.source for cell in instructor)
    for source in slow:
        compile(source, "cell", "exec")
        assigned = names_in(source, ast.Store) - {"alt", "RUN"}
        others = (
            names_in(cell.source, ast.Load) - names_in(cell.source, ast.Store)
            for cell in student
            if cell.cell_type == "code" and cell.source not in slow
        )
        assert assigned and not assigned & set().union(*others)


def names_in(source, context):
    """The names that a cell reads (ast.Load) or sets (ast.Store)."""
    nodes = ast.walk(ast.parse(source))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, context)
    }


def test_a_switched_off_cell_does_nothing_until_it_is_switched_on(capsys):
    source = switched_off("seen.append(1)\nx = len(\n    seen\n)\n\nmax(\n    x,\n    5,\n)")
    space = {"seen": [], "display": print}
    exec(source, space)
    assert space["seen"] == [] and "set RUN = True" in capsys.readouterr().out
    exec(source.replace("RUN = False", "RUN = True"), space)
    assert space["seen"] == [1] and capsys.readouterr().out == "5\n"
    with pytest.raises(ValueError, match="string over several lines"):
        switched_off('x = """a\nb"""')


def test_what_checks_tell_is_for_instructors_alone(versions):
    """No mistake is named in any notebook that students get, nor on the page for teachers."""
    page = (ROOT / "book/teaching.md").read_text()
    students = "\n".join(
        cell.source for name in CHAPTERS for cell in cells_of(versions, "student", name)
    )
    told = {
        name: "\n".join(cell.source for cell in cells_of(versions, "instructor", name))
        for name in CHAPTERS
    }
    for name in CHAPTERS:
        for cell in cells_of(versions, "student", name):
            for check in CHECKED.findall(cell.source) if cell.cell_type == "code" else ():
                for mistake in CHECKS[check].mistakes:
                    begins = mistake.says.split(":")[0]
                    assert begins not in students and begins not in page
                    assert re.sub(r"([\\`*_<>$|~])", r"\\\1", mistake.says) in told[name]


def test_links_lead_to_notebooks_that_are_there(versions):
    found, project = 0, versions[0] / "student" / "own-task.ipynb"
    assert project in versions[1]
    for path in versions[1]:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                for target in re.findall(r"\]\(([^)#]+\.ipynb)\)", cell.source):
                    assert (path.parent / target).exists(), (path.name, target)
                    found += 1
    assert found > 20


def test_a_notebook_installs_the_library_from_the_checkouts_origin(tmp_path):
    """Whose fork it is, its origin says; an address that is given comes first; no origin, no
    installation."""
    for folder in ("notebooks", "book"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)

    def first(**options):
        make_versions(tmp_path, tmp_path / "out", ["circuits"], **options)
        cells = nbformat.read(tmp_path / "out/student/circuits.ipynb", as_version=4).cells
        return next(cell.source for cell in cells if cell.cell_type == "code")

    assert first() == "import circuitbook"
    subprocess.run(
        [*git, "remote", "add", "origin", "git@github.com:some-fork/circuits.git"], check=True
    )
    assert 'REPOSITORY = "https://github.com/some-fork/circuits"' in first()
    assert 'REPOSITORY = "file:///a.whl"' in first(address="file:///a.whl")
    assert main(["colab", "--notebooks", str(tmp_path / "notebooks")]) == 0
    assert "github.com/some-fork/circuits" in (tmp_path / "notebooks/lab.ipynb").read_text()
    subprocess.run([*git, "remote", "remove", "origin"], check=True)
    with pytest.raises(SystemExit, match="error: git's origin is not on GitHub, so an address"):
        main(["colab", "--notebooks", str(tmp_path / "notebooks")])


# ------------------------------------------------------------------ the lab


def test_the_lab_opens_the_course_and_writes_over_nothing(tmp_path, monkeypatch):
    """JupyterLab is started on the student versions, with this clone's models and store."""
    for folder in ("notebooks", "book"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    started = []

    def run(command, env):
        started.append((command, env))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(lab, "subprocess", types.SimpleNamespace(run=run))
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="error: JupyterLab is not installed: `pip install jup"):
        main(["lab"])
    assert not (tmp_path / "course").exists()
    monkeypatch.setattr(lab.importlib.util, "find_spec", lambda name: object())
    for variable in ("CIRCUITBOOK_MODELS", "CIRCUITBOOK_STORE"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["lab"]) == 0
    student = tmp_path / "course/student"
    (student / "circuits.ipynb").write_text("mine")
    assert main(["lab", "--no-browser"]) == 0 and main(["lab", "notebooks"]) == 0
    assert (student / "circuits.ipynb").read_text() == "mine"
    (one, environment), (two, _), (three, _) = started
    assert one[1:] == ["-m", "jupyterlab", f"--ServerApp.root_dir={student}"]
    assert two == [*one, "--no-browser"]
    assert three[-1] == f"--ServerApp.root_dir={tmp_path / 'notebooks'}"
    assert environment["CIRCUITBOOK_MODELS"] == str(tmp_path / "models")
    assert environment["CIRCUITBOOK_STORE"] == str(tmp_path / ".store")
    with pytest.raises(SystemExit, match="error: there is no folder .*nowhere"):
        main(["lab", "nowhere"])
    with pytest.raises(SystemExit, match="is no clone of the book: the notebooks come with its"):
        main(["lab", "--root", str(tmp_path / "course")])


def test_a_missing_package_is_one_line(monkeypatch):
    def missing(argv):
        raise ModuleNotFoundError("No module named 'papermill'", name="papermill")

    monkeypatch.setattr("circuitbook.__main__.parser", lambda: missing(None))
    with pytest.raises(SystemExit, match=r"error: papermill is not installed; .*\[course\]"):
        main(["lab"])
