"""Captions of the built site: each says something that its figure's alt text does not."""

import html
import re

import browsing
import pytest

FIGURE = re.compile(
    r'<figure class="numbered[^>]*\bid="([^"]*)">(.*?)<figcaption>(.*?)</figcaption>', re.DOTALL
)
ALT = re.compile(r'\b(?:alt|aria-label)="([^"]*)"')
NOT_TEXT = re.compile(
    r'<a class="headerlink.*?</a>|<span class="caption-number">.*?</span>|<[^>]+>'
)


def said_twice(page: str) -> list[str]:
    """The figures of a page, by anchor, whose caption is their alt text again."""
    return [
        anchor
        for anchor, figure, caption in FIGURE.findall(page)
        if (alt := ALT.search(figure)) and plain(NOT_TEXT.sub("", caption)) == plain(alt[1])
    ]


def plain(text: str) -> str:
    return " ".join(html.unescape(text).casefold().split()).rstrip(".")


@pytest.mark.skipif(
    not (browsing.SITE / "index.html").is_file(), reason="there is no built site (make book)"
)
@pytest.mark.parametrize("page", browsing.pages() or ["(no page)"])
def test_a_caption_says_more_than_the_alt_text(page):
    assert said_twice((browsing.SITE / page).read_text(encoding="utf8")) == []


def test_the_check_sees_what_it_is_for():
    figure = (
        '<figure class="numbered align-default" id="{}">\n<img alt="Curves rise &amp; fall.">'
        '<figcaption>\n<p><span class="caption-number">Figure 1 </span><span class="caption-text">'
        '{}</span><a class="headerlink" href="#x">#</a></p></figcaption></figure>'
    )
    page = figure.format("a", "curves <em>rise</em> &amp; fall") + figure.format("b", "They meet.")
    assert said_twice(page) == ["a"]
