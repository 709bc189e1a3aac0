"""`everlong generate`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from everlong.cli.arguments import RunPath, load, read
from everlong.cli.tables import note
from everlong.generate import Sampling, Step
from everlong.generate import generate as generated

Repeated = tyro.conf.UseAppendAction[tuple[str, ...]]


def generate(
    run: RunPath,
    /,
    *,
    prompt: Repeated = (),
    prompt_file: tyro.conf.UseAppendAction[tuple[Path, ...]] = (),
    max_tokens: int = 400,
    stop: Repeated = (),
    ignore_eos: bool = False,
    sampling: Annotated[Sampling, tyro.conf.arg(name="")] = Sampling(),  # noqa: B008  # frozen
) -> None:
    """Continue prompts with a trained model.

    The text appears as it is made. Several prompts are continued together, as one batch, and shown one after the
    other; each text is the same as if its prompt were alone. Without a prompt, the model begins a document.

    For example:
      everlong generate runs/demo --prompt "def " --temperature 0.7
      everlong generate runs/demo --prompt "import " --prompt "class " --stop $'\\n\\n' --seed 3
      everlong generate runs/demo --prompt-file begun.py --max-tokens 2000 --top-p 0.95

    Args:
        run: the folder of a run
        prompt: text to continue
        prompt_file: a file whose bytes to continue, as they stand
        max_tokens: most tokens to add to each prompt
        stop: end a text before this
        ignore_eos: never let the model end the document
    """
    prompts = [*prompt, *map(read, prompt_file)] or [""]
    loaded = load(run)
    steps = generated(
        loaded.model,
        loaded.codec,
        prompts,
        max_tokens=max_tokens,
        sampling=sampling,
        stop=stop,
        stop_at_eos=not ignore_eos,
    )
    _show(steps, [text if isinstance(text, str) else text.decode("utf-8", "replace") for text in prompts])


def _show(steps: Iterable[Step], prompts: Sequence[str]) -> None:
    """Writes the first unfinished text as it grows, and keeps what is made of the later ones for their turn."""
    waiting = dict.fromkeys(range(len(prompts)), "")
    finished: dict[int, str] = {}
    shown = _begin(0, prompts)
    for step in steps:
        waiting[step.row] += step.text
        if step.finished:
            finished[step.row] = step.finished
        while shown < len(prompts):
            _write(waiting[shown])
            waiting[shown] = ""
            if shown not in finished:
                break
            _write("\n")
            note(f"({finished[shown]})")
            shown = _begin(shown + 1, prompts)


def _begin(row: int, prompts: Sequence[str]) -> int:
    """Shows the prompt of a row, if there is such a row, under a heading if there are several."""
    if row < len(prompts):
        if len(prompts) > 1:
            note(f"--- {row + 1} of {len(prompts)} ---")
        _write(prompts[row])
    return row


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
