"""A process that trains in forks of itself, which can be killed at will; it imports torch but once.

It reads one JSON request a line and answers each with one: {"exit": status, "writes": n, ...}, where a negative
status is the signal that ended the fork. Requests:

    {"run": name, "folder": path}                  train to the end, or go on
    {..., "kill_at_write": n}                      SIGKILL itself at the n-th step of writing checkpoints
    {..., "kill_after": seconds}                   SIGKILL from outside
    {..., "signal_at_step": n, "signal": number}   signal itself in update n

A "step of writing" is a call that changes what is on the disk: making, renaming or removing a folder, bringing a
file to the disk, and writing a file of tensors, which is cut in half.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  # which every optimizer imports when it is made: once is enough

import everlong
from everlong.train import AdamW, Callback, DataConfig, Muon, Trainer, session, snapshot, train

SHORT: dict[str, Any] = {"window": 16, "steps": 9, "checkpoint_every": 2, "log_every": 3, "evaluate_every": 4}
RUNS: dict[str, tuple[str, Trainer.Config]] = {
    "shuffled": ("transformer", Trainer.Config(batch=2, optimizer=AdamW.Config(), **SHORT)),
    "carried": ("linear", Trainer.Config(batch=4, accumulation=2, carry=True, optimizer=Muon.Config(), **SHORT)),
}


class Signal(Callback):
    """Sends the process a signal in an update."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number = at, number

    def on_step(self, step):
        if step.step == self.at:
            os.kill(os.getpid(), self.number)


class Writes:
    """Counts the steps of writing, and dies at one of them."""

    def __init__(self, fatal: int | None) -> None:
        self.count, self.fatal = 0, fatal
        for module, name in ((os, "mkdir"), (os, "rename"), (os, "replace"), (os, "fsync"), (shutil, "rmtree")):
            setattr(module, name, self.counted(getattr(module, name)))
        snapshot.save_file = self.counted(snapshot.save_file, halve)

    def counted(self, call: Callable[..., Any], last: Callable[..., None] = lambda *_: None) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self.fatal:
                last(call, *arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **named)

        return counting


def halve(save: Callable[..., None], tensors: Any, path: Path) -> None:
    """Writes the first half of a file."""
    save(tensors, path)
    os.truncate(path, path.stat().st_size // 2)


def work(request: dict[str, Any], answer: Path) -> int:
    """What a fork does; returns its exit status, as the command line's would be."""
    session.matmul_rate = lambda *_: 1e9
    writes = Writes(request.get("kill_at_write"))
    family, training = RUNS[request["run"]]
    model = everlong.config(f"{family}:nano", layers=2, width=16, heads=2)
    folder, home = Path(request["folder"]), Path(request["home"])
    data = DataConfig(sources=(str(home / "data"),), validation_fraction=0.5)
    callbacks = [Signal(request["signal_at_step"], request["signal"])] if "signal" in request else []
    result = train(model, training, folder=folder, data=data, callbacks=callbacks, cache=home / "cache")
    answer.write_text(json.dumps({"writes": writes.count, "step": result.step}))
    return 0 if result.interrupted is None else 128 + result.interrupted


def forked(request: dict[str, Any]) -> dict[str, Any]:
    """Answers a request in a fork."""
    answer = Path(request["home"]) / "answer.json"
    answer.unlink(missing_ok=True)
    begun, child = time.monotonic(), os.fork()
    if not child:
        status = 1
        try:
            status = work(request, answer)
        finally:
            os._exit(status)
    if "kill_after" in request:
        time.sleep(request["kill_after"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    told = json.loads(answer.read_text()) if answer.exists() else {}
    return {"exit": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - begun, **told}


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(forked(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
