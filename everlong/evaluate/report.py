"""A report as one HTML file that needs nothing else: no scripts, no links, figures as inline SVG.

It reads in light and dark, on small screens and on paper. `render` only arranges and escapes; what is said is the
caller's.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Headline:
    """One number that everybody should see."""

    value: str
    label: str
    best: bool = False
    """Whether it is the one that the report is about."""


@dataclass(frozen=True)
class Figure:
    """A figure and what it says."""

    title: str
    svg: str
    """The markup of an `<svg>` element, from `figure.inline_svg`."""
    caption: str


@dataclass(frozen=True)
class Listing:
    """Text to be shown exactly as it is, such as a sample or a configuration."""

    title: str
    text: str
    caption: str
    given: str = ""
    """The beginning of the text, if it was given and not made."""
    folded: bool = False
    """Whether it is hidden until asked for; on paper it always shows."""


@dataclass(frozen=True)
class Table:
    """Numbers in rows and columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class Mark:
    """A stretch of a text, and what is shown of it."""

    text: str
    strength: float
    """Of its background, from 0 to 1."""
    begins: bool
    """Whether a line is drawn before it."""
    told: str
    """What it says when it is pointed at."""


@dataclass(frozen=True)
class Marked:
    """A text whose stretches are coloured."""

    title: str
    marks: Sequence[Mark]
    caption: str


Section = Figure | Listing | Table | Marked


def render(title: str, lead: str, headlines: Sequence[Headline], sections: Sequence[Section], footer: str) -> str:
    """The report's HTML. Every text is escaped and its control characters replaced; a `svg` is taken as markup."""
    cards = "".join(map(_headline, headlines))
    body = "\n".join(map(_section, sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<style>{_CSS}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
<p>{_text(lead)}</p>
</header>
<main>
<dl class="headlines">{cards}</dl>
{body}
</main>
<footer><p>{_text(footer)}</p></footer>
</body>
</html>
"""


def _headline(headline: Headline) -> str:
    mark = ' class="best"' if headline.best else ""
    return f"<div{mark}><dt>{_text(headline.label)}</dt><dd>{_text(headline.value)}</dd></div>"


def _section(section: Section) -> str:
    match section:
        case Figure():
            inside = f"<figure>{section.svg}{_caption(section.caption, 'figcaption')}</figure>"
        case Table():
            inside = _caption(section.caption, "p") + _table(section)
        case Listing():
            text = f"<pre><b>{_text(section.given)}</b>{_text(section.text)}</pre>"
            folded = f"<details><summary>Show</summary>{text}</details>" if section.folded else text
            inside = _caption(section.caption, "p") + folded
        case Marked():
            inside = _caption(section.caption, "p") + f'<pre class="marked">{"".join(map(_mark, section.marks))}</pre>'
    return f"<section>\n<h2>{_text(section.title)}</h2>\n{inside}\n</section>"


def _mark(mark: Mark) -> str:
    begins = ' class="begins"' if mark.begins else ""
    strength = f' style="--strength:{100 * mark.strength:.0f}%"'
    return f'<span{begins}{strength} title="{_text(mark.told)}">{_text(mark.text)}</span>'


def _caption(caption: str, tag: str) -> str:
    return f"<{tag}>{_text(caption)}</{tag}>"


def _table(table: Table) -> str:
    def row(cells: Sequence[str], first: str, rest: str) -> str:
        texts = [_text(cell) for cell in cells]
        return f"<tr>{first.format(texts[0])}{''.join(rest.format(text) for text in texts[1:])}</tr>"

    head = row(table.columns, '<th scope="col">{}</th>', '<th scope="col">{}</th>')
    body = "\n".join(row(cells, '<th scope="row">{}</th>', "<td>{}</td>") for cells in table.rows)
    return f'<div class="wide"><table><thead>{head}</thead><tbody>\n{body}\n</tbody></table></div>'


def _text(text: str) -> str:
    """Text as markup that shows it; HTML has no control characters, so U+FFFD stands for them."""
    return html.escape(text.translate(_CONTROL))


_CONTROL = {code: "\ufffd" for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\t\n"}

_CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f5f6f8; --ink: #1c2128; --muted: #5c6470; --grid: #e2e5ea; --accent: #2f6fdf;
  --other: #b4bbc6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --card: #1d2127; --ink: #e8eaed; --muted: #9aa3af; --grid: #2e343c; --accent: #6ea2ff;
    --other: #566070;
  }
}
* { box-sizing: border-box }
body {
  margin: 0 auto; padding: 3rem 1.25rem; max-width: 50rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", sans-serif;
}
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em }
h2 { margin: 3rem 0 .5rem; font-size: 1.2rem; letter-spacing: -.01em }
p, figcaption { margin: .4rem 0 .8rem; color: var(--muted) }
header p { font-size: 1.08rem }
.headlines { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem }
.headlines { margin: 2rem 0 0 }
.headlines div { padding: .8rem 1rem; border-radius: .5rem; background: var(--card) }
.headlines .best { background: var(--accent); --ink: #fff; --muted: #fff }
@media (prefers-color-scheme: dark) { .headlines .best { --ink: #0b0d10; --muted: #0b0d10 } }
dt { color: var(--muted); font-size: .85rem }
dd { margin: 0; color: var(--ink); font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums }
figure { margin: 0 }
svg { display: block; width: 100%; height: auto; font-family: inherit; stroke-linejoin: round }
pre, table { font: .82rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
pre { margin: 0; padding: 1rem; border-radius: .5rem; background: var(--card); overflow-x: auto; tab-size: 4 }
pre b { color: var(--accent) }
.marked { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9 }
.marked span { background: color-mix(in srgb, var(--accent) var(--strength), transparent) }
.marked .begins { border-left: 2px solid var(--ink) }
summary { cursor: pointer; color: var(--muted); margin-bottom: .5rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .75rem .25rem 0; text-align: right; border-bottom: 1px solid var(--grid); font-weight: 400 }
th:first-child { text-align: left }
thead th { color: var(--muted) }
footer { margin-top: 3rem; font-size: .85rem }
@media print {
  :root {
    --paper: #fff; --card: #f5f6f8; --ink: #000; --muted: #444; --grid: #ddd; --accent: #2f6fdf; --other: #b4bbc6;
  }
  body { padding: 0; max-width: none; font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact }
  figure, .headlines, tr { break-inside: avoid }
  h2 { break-after: avoid }
  pre { white-space: pre-wrap; overflow-wrap: anywhere }
  details::details-content { content-visibility: visible; block-size: auto }
  summary { display: none }
}
"""
