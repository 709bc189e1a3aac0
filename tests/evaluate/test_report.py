"""A report is one well-formed page that says everything, asks for nothing, and runs nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from everlong.evaluate.report import Figure, Headline, Listing, Table, render

EVIL = '</pre><script>alert("1")</script>&amp;'
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """The text, tags and attributes of a page, whose tags must close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def page() -> str:
    sections = [
        Figure("A <figure>", '<svg viewBox="0 0 1 1"><g/></svg>', "what & why"),
        Listing("Sample", EVIL, "made", given="def <T>"),
        Listing("Configuration", "a: 1", "all", folded=True),
        Table("Table", ("<name>", "value"), [("x & y", "1.5"), ("z", "2.5")], "numbers"),
    ]
    return render(
        "A <title>", "lead & more", [Headline("1.5", "bits", best=True), Headline("<2>", "xz")], sections, "end"
    )


def test_it_is_well_formed(page):
    tags = Page(page).tags
    assert page.startswith("<!doctype html>")
    assert tags.count("h1") == tags.count("main") == tags.count("header") == tags.count("footer") == 1
    assert tags.count("section") == tags.count("h2") == 4
    assert tags.count("dt") == tags.count("dd") == 2


def test_texts_are_escaped(page):
    parsed = Page(page)
    assert "script" not in parsed.tags
    for text in (EVIL, "def <T>", "A <title>", "lead & more", "<2>", "A <figure>", "what & why", "<name>", "x & y"):
        assert text in parsed.text


def test_control_characters_are_replaced():
    page = render("title", "bell \x07 and \x9f, tab \t", [], [], "")
    assert "bell \ufffd and \ufffd, tab \t" in Page(page).text


def test_it_asks_for_nothing(page):
    parsed = Page(page)
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert not {"link", "script", "img", "iframe"} & set(parsed.tags)
    assert not {"src", "onload", "onclick"} & {name for name, _ in parsed.attributes}


def test_it_is_for_everybody(page):
    parsed = Page(page)
    assert ("lang", "en") in parsed.attributes
    assert ("name", "viewport") in parsed.attributes
    assert ("scope", "row") in parsed.attributes
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_the_given_text_is_told_from_the_made_one(page):
    assert "<pre><b>def &lt;T&gt;</b>&lt;/pre&gt;" in page


def test_what_is_folded_can_be_unfolded(page):
    assert Page(page).tags.count("details") == Page(page).tags.count("summary") == 1


def test_every_colour_of_the_figures_is_defined(page):
    from everlong.evaluate.figure import VARIABLES

    for name in VARIABLES.values():
        assert page.count(f"--{name}: #") >= 3  # light, dark and print
