"""The house style of figures, and how they reach a file or a page (extra `report`).

Equal numbers give equal bytes: no dates, no random ids. On a page, the colours of a figure are CSS variables, so
that it follows the page's light or dark theme.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from everlong.core.config import check
from everlong.core.errors import ConfigError
from everlong.evaluate.output import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK, MUTED, GRID, ACCENT, OTHER = "#1c2128", "#68707c", "#e2e5ea", "#2f6fdf", "#b4bbc6"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", ACCENT: "accent", OTHER: "other"}
"""The CSS variable that stands for each colour on a page."""

FORMATS = (".svg", ".png")

_STYLE: dict[Any, Any] = {
    "axes.facecolor": "none",
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "figure.constrained_layout.use": True,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "xtick.minor.bottom": False,
    "ytick.labelcolor": MUTED,
    "ytick.left": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


def require(path: str | Path | None = None) -> None:
    """Makes sure that a figure can be drawn, and written to `path`, before any work is done for it.

    Raises:
        ConfigError: the extra `report` is not installed, or the path ends in no known format.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError("plot", str(path), "needs the extra `report`: pip install everlong[report]") from error
    if path is not None:
        check(_suffix(path) in FORMATS, "plot", str(path), f"must end in one of: {', '.join(FORMATS)}")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Gives the figures that a function draws the house style, and leaves all others alone."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        require()
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


def save(figure: Figure, path: str | Path) -> None:
    """Writes a figure, whole or not at all; the ending of the name chooses SVG or PNG.

    Raises:
        ConfigError: another ending.
        DataError: the file cannot be written.
    """
    require(path)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(_rendered(figure, _suffix(path)[1:], background="white"))


def inline_svg(figure: Figure, description: str) -> str:
    """A figure as an `<svg>` element without ids of its own, links or fixed colours.

    Args:
        description: what the figure shows, for those who cannot see it.
    """
    svg = _rendered(figure, "svg", background="none", salt=description).decode()
    view = re.search(r'viewBox="[^"]*"', svg)
    opening = f'<svg {view[0] if view else ""} role="img" aria-label="{html.escape(description)}">'
    svg = opening + svg[svg.index('<g id="figure_1">') :]  # after the metadata, which link to the web
    svg = re.sub(r'<g id="[^"]*"', "<g", svg).replace("xlink:href", "href")
    svg = re.sub(r"font-family: [^;]*; ", "", svg)  # the page's own
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.strip()


def _rendered(figure: Figure, kind: str, *, background: str, salt: str = "everlong") -> bytes:
    """The bytes of a figure; `salt` goes into the ids of what it defines, so that pages can hold several."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context({**_STYLE, "svg.hashsalt": salt}):
        figure.savefig(buffer, format=kind, dpi=160, metadata=metadata, facecolor=background)
    return buffer.getvalue()


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower()
