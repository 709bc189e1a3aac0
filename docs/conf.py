"""The documentation site: `sphinx-build -W docs build/site`."""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective

DOCS = Path(__file__).parent.resolve()
sys.path.insert(0, str(DOCS.parent))
import everlong.testing  # noqa: E402  # with all that it needs of torch, before anything is a mock

project, author, release = "Everlong", "The Everlong maintainers", everlong.__version__
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme, html_title = "furo", f"Everlong {release}"
html_copy_source = False

myst_heading_anchors = 3  # links to headings, as on GitHub
default_role = "code"  # docstrings have single backticks
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
add_module_names = False
autodoc_mock_imports = ["triton"]  # which CPUs do without
toc_object_entries = False  # half of the time that the site takes

_CODE = re.compile(r"(`[^`]*`)")
_MARKUP = re.compile(r"\*|\||(?<=\w)_(?!\w)")


class Modules(SphinxDirective):
    """Every module of a package, so that the reference lacks none."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = import_module(self.arguments[0])
        lines = []
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            members = ["   :no-members:"] if found.ispkg else []  # what a package hands on stands where it is from
            lines += [found.name, "-" * len(found.name), "", f".. automodule:: {found.name}", *members, ""]
        within = nodes.section(document=self.state.document)
        self.state.nested_parse(StringList(lines, self.arguments[0]), 0, within, match_titles=True)
        return within.children


def in_rest(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are prose: nothing outside of backticks is markup, and what is indented at the top of a file is an
    equation, a picture or code."""
    if what == "module":
        lines[:] = _literal(lines)
        return
    lines[:] = [_escaped(line) for line in lines]
    if what != "attribute":  # whose colons are not those of a field
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, thing, options).lines()


def _literal(lines: Sequence[str]) -> Iterator[str]:
    """With every stretch of indented lines as a literal block."""
    for indented, stretch in groupby(lines, lambda line: line.startswith(" ")):
        told = list(stretch)
        yield from ("", "::", "", *told, "") if indented else map(_escaped, told)


def _escaped(line: str) -> str:
    parts = _CODE.split(line)
    return "".join(part if part.startswith("`") else _MARKUP.sub(r"\\\g<0>", part) for part in parts)


def outside(_app: Sphinx, name: str, source: list[str]) -> None:
    """Links to Markdown that is no page of the site lead to the file, as they do on GitHub."""
    here = (DOCS / name).parent

    def linked(found: re.Match[str]) -> str:
        inside = (here / found[1]).resolve().is_relative_to(DOCS)
        return found[0] if inside else f"](path:{found[1]})"

    source[0] = re.sub(r"\]\(([\w./-]+\.md)\)", linked, source[0])


def setup(app: Sphinx) -> None:
    app.add_directive("modules", Modules)
    app.connect("autodoc-process-docstring", in_rest)
    app.connect("source-read", outside)
