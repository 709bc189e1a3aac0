"""The command line: one verb, one function, one file.

`everlong VERB ...` imports the file of that verb only, so that help comes at once: PyTorch takes longer to load than
most answers take to give.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from everlong.core.config import suggest
from everlong.core.errors import ConfigError, DataError, EverlongError

VERBS = {
    "presets": "List the architectures and their sizes.",
    "describe": "Show a model part by part, and what it costs.",
    "data": "List the corpora that can be fetched, or fetch some.",
    "train": "Train a model on files, or on the standard library's sources.",
    "generate": "Continue prompts with a trained model.",
    "score": "Tell how surprised a model is by every byte of a file.",
    "inspect": "Show a text as a model sees it: surprisal, chunks, routed positions, gates.",
    "evaluate": "Measure bits per byte on documents, against gzip, bz2 and xz.",
    "compress": "Compress a file with a model, without loss.",
    "decompress": "Restore a file that `compress` made, with the same model.",
    "compare": "Train and compare architectures at matched sizes, as a study says.",
    "report": "Write the report of a study, as one HTML page and as Markdown.",
    "plan": "Work out what dilated attention costs at a length, before anything is trained.",
    "demo": "Train, evaluate, compress and report, in about five minutes on two cores.",
}
"""Every verb and the first line of its help. Verb `v` is the function `v` in `everlong/cli/v.py`."""

DEBUG = "EVERLONG_DEBUG"
"""Environment variable: set it to anything to see where an error was raised."""

INTERRUPTED = 130
"""The exit code that shells expect of a command that was interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: what follows `everlong`; `None`: those of this process.

    Returns:
        The exit code: 0; 2 for what the user can mend; 1 if nobody reads the output any more; 130 when interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        _overview()
        return 0
    return _guarded(lambda: _run(*arguments))


def _run(verb: str, *arguments: str) -> None:
    if verb not in VERBS:
        raise ConfigError("verb", verb, suggest(verb, VERBS))
    module = import_module(f"everlong.cli.{verb}")
    function: Callable[..., None] = getattr(module, verb)
    if prepare := getattr(module, "prepare", None):  # its options depend on some of its arguments
        function = prepare(arguments)
    quiet = (tyro.conf.HelptextFromCommentsOff, tyro.conf.FlagCreatePairsOff)
    tyro.cli(function, prog=f"everlong {verb}", args=arguments, config=quiet)


def _guarded(run: Callable[[], None]) -> int:
    """Runs it, and tells an error in one message with its remedy."""
    try:
        run()
        sys.stdout.flush()
    except EverlongError as error:
        if DEBUG in os.environ:
            raise
        _explain(error)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it exits
        return 1
    except OSError as error:  # a full disk, a folder without permission, whatever a verb did not foresee
        if DEBUG in os.environ:
            raise
        remedy = f"{error.strerror or error}: free space, or check the path and its permissions"
        _explain(DataError("file", error.filename, remedy))
        return 2
    return 0


def _explain(error: EverlongError) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"[bold red]error:[/] {escape(f'{error.field} = {error.value!r}')}")
    console.print(f"       {escape(error.remedy)}")
    console.print(f"[dim]       ({DEBUG}=1 shows where it was raised)[/]")


def _overview() -> None:
    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2))
    for verb, summary in VERBS.items():
        table.add_row(f"[bold]{verb}[/]", escape(summary))
    console.print("usage: everlong VERB ...\n\nLanguage models past the Transformer's quadratic wall.\n")
    console.print(table)
    console.print("\n`everlong VERB --help` explains a verb. A good beginning: everlong demo")
