"""The quizzes: each question has one right answer, and the page shows what is said of a choice."""

import re
from pathlib import Path

import browsing
import nbformat
import pytest
from selenium.webdriver.common.keys import Keys
from test_build import frozen_package, notebook_of  # noqa: F401 (a fixture)
from test_site import site_of, with_outputs

from circuitbook.publishing.build import chapters_of
from circuitbook.teaching.course import make_versions
from circuitbook.teaching.quiz import quiz_as_markdown, quiz_of

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "book/quiz").glob("*.yml"))
WITH = ("abilities", "circuits", "circuits-over-training", "components", "after-formation")
WITH += ("algorithm", "two-algorithms", "real-model", "stability", "enough", "circuit-tests", "lab")

SMALL = """
- question: What is *two* and $1 + 1$?
  choices:
    - wrong: Three.
      because: This is <b>more</b>.
    - right: Two.
      because: By *counting*.
"""


def test_every_chapter_that_says_something_has_three_questions():
    names = {Path(chapter).name for chapter in chapters_of(ROOT)}
    assert {file.stem for file in FILES} >= set(WITH) and {file.stem for file in FILES} <= names
    for file in FILES:
        questions = quiz_of(ROOT, file.stem)
        assert len(questions) == 3
        for question in questions:
            assert question.text.endswith("?") and len(question.choices) == 3
            assert len({choice.text for choice in question.choices}) == 3
            assert all(choice.because.endswith(".") for choice in question.choices)


def test_the_right_choice_is_not_known_by_its_place_or_length():
    """A third of them at each place, and the longest choice is not the right one as a rule."""
    places, longest, count = [0, 0, 0], 0, 0
    for file in FILES:
        for question in quiz_of(ROOT, file.stem):
            at = [choice.right for choice in question.choices].index(True)
            lengths = [len(choice.text) for choice in question.choices]
            places[at] += 1
            longest += lengths[at] == max(lengths)
            count += 1
    assert min(places) >= count / 5 and longest <= 0.45 * count, (places, longest, count)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- question: [", "cannot be read"),
        ("question: a", "is no list of questions"),
        ("- question: a", "question 1: a question has `question` and `choices`"),
        ("- question: a\n  choices: [{right: b}]", "a choice is `right` or `wrong`, and has its"),
        (SMALL.replace("wrong:", "right:"), "question 1: of two or more choices exactly one"),
        (SMALL.replace("right:", "wrong:"), "question 1: of two or more choices exactly one"),
    ],
)
def test_what_is_not_written_well_is_told_with_its_place(tmp_path, text, said):
    (tmp_path / "book/quiz").mkdir(parents=True)
    (tmp_path / "book/quiz/one.yml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        quiz_of(tmp_path, "notebooks/one")
    assert "one.yml" in str(error.value)


def test_in_notebooks_it_is_text_and_answers_are_for_instructors(tmp_path):
    make_versions(ROOT, tmp_path, ["circuits"])
    for version in ("student", "instructor"):
        cells = nbformat.read(tmp_path / version / "circuits.ipynb", as_version=4).cells
        quiz, last = cells[-2:]
        assert last.source.startswith("**Next:**")
        assert quiz.source == quiz_as_markdown(
            quiz_of(ROOT, "circuits"), answers=version == "instructor"
        )
        for question in quiz_of(ROOT, "circuits"):
            assert question.text in quiz.source
            for choice in question.choices:
                assert choice.text in quiz.source
                assert (choice.because in quiz.source) == (version == "instructor")


@pytest.mark.slow
def test_a_page_shows_it_before_what_comes_next_and_works_without_a_script(tmp_path):
    one = notebook_of("# % # One", "1 + 1", "# % **Next:** two.")
    two = notebook_of("# % # Two\n\nFirst.\n\n```{quiz}\n```\n\nAfter.", "1 + 1")
    (tmp_path / "book/quiz").mkdir(parents=True)
    for name in ("one", "two", "index"):
        (tmp_path / f"book/quiz/{name}.yml").write_text(SMALL)
    front = "# A Small Book\n\nText.\n\n**Next:** one.\n"
    notebooks = {"one": one, "two": two, "three": notebook_of("# % # Three", "1 + 1")}
    notebooks = {name: with_outputs(made, c0=[]) for name, made in notebooks.items()}
    site = site_of(tmp_path, front, **notebooks)
    read = {name: (site / f"notebooks/{name}.html").read_text() for name in ("one", "two", "three")}
    read["index"] = (site / "book/index.html").read_text()
    for name in ("one", "index"):
        places = [
            read[name].index(part)
            for part in ("<h2>Check yourself<", '<fieldset class="quiz"', "<strong>Next:</strong>")
        ]
        assert places == sorted(places)
    places = [read["two"].index(part) for part in ("First.", "<fieldset", "After.")]
    assert places == sorted(places) and "Check yourself" not in read["two"]
    assert "quiz" not in read["three"] and "quiz.css" in read["one"] and "quiz.css" in read["two"]
    quiz = re.search(r"<fieldset.*?</fieldset>", read["one"], re.DOTALL)[0]
    assert quiz.count('<label><input type="radio" name="quiz-1"') == 2 and "<script" not in quiz
    assert "<em>two</em>" in quiz and "1 + 1" in quiz and "<em>counting</em>" in quiz
    says = quiz[quiz.index('role="status"') :]
    assert re.findall(r'<p class="quiz-(\w+)">', says) == ["wrong", "right"]


@pytest.mark.browser
@pytest.mark.skipif(browsing.missing() is not None, reason=str(browsing.missing()))
def test_in_a_browser_a_choice_says_why(browser):
    """Nothing before a choice, then what belongs to it; the keyboard is enough."""
    shown = """
    return [...document.querySelectorAll('#quiz-1 .quiz-says p')].map(p => p.checkVisibility())"""
    with browsing.served(browsing.SITE) as address:
        browser.open(f"{address}/notebooks/circuits.html")
        assert browser.run(shown) == [False] * 3
        browser.run("document.querySelector('#quiz-1 input').focus()")
        browser.driver.switch_to.active_element.send_keys(Keys.SPACE)
        assert browser.run(shown) == [True, False, False]
        browser.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
        assert browser.run(shown) == [False, True, False]
