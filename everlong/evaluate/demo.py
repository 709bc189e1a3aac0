"""The demo: from raw bytes to a model that predicts unseen files, measured, proved and reported, in minutes.

It learns the standard library's own sources, byte by byte. First it finds out how many steps fit in the time; from
then on everything follows from the configuration and the seed. A folder that holds a demo already is gone on with:
its steps are kept, and what is trained is not trained again.
"""

from __future__ import annotations

import platform
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import everlong
from everlong.core.accounting import parameter_count
from everlong.core.config import Config, check
from everlong.core.errors import TrainingError
from everlong.data import ByteCodec, Corpus, Loader
from everlong.data.progress import progress
from everlong.evaluate.bits_per_byte import BitsPerByte, evaluate
from everlong.evaluate.compressors import Baselines, baselines
from everlong.evaluate.round_trip import RoundTrip, round_trip
from everlong.generate import Sampling, generate
from everlong.train import WSD, ConsoleProgress, DataConfig, Muon, Result, Run, Trainer, load_run, train
from everlong.train.allocator import keep_freed_memory
from everlong.train.run import CONFIG, read_run


class Settings(Config):
    """Everything that the demo follows from, but for the time."""

    preset: str = "engram:tiny"
    overrides: dict[str, Any]
    """Arguments of the preset."""
    training: Trainer.Config
    """Its `steps` are replaced by as many as fit in the time."""
    data: DataConfig = DataConfig()
    """The standard library's sources; a share of the files is held out."""
    prompt: str = "def "
    """What the sample continues."""
    sample_tokens: int = 600
    sampling: Sampling = Sampling(temperature=0.7, top_p=0.95)
    file_bytes: int = 4096
    """The held-out file of about this size makes the round trip."""


DEMO = Settings(
    overrides={
        "layers": 1,
        "width": 128,
        "heads": 1,
        "memory_layers": (0,),
        "orders": (2, 3, 4, 5, 6, 8, 12, 20),
        "rows": 2**19,
        "row_width": 16,
        "ngram_heads": (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32),
    },
    training=Trainer.Config(
        steps=1,
        window=1024,
        batch=6,
        optimizer=Muon.Config(learning_rate=0.01),
        schedule=WSD(warmup=0.05, decay=0.5),
        evaluate_every=200,
    ),
)
"""What `everlong demo` runs. Little fits in the time, so a step has to be cheap: one layer. Tables of n-grams, up to 20
bytes, learn what the corpus says; n-gram heads find what the file has said, which is why windows are long."""

WARM_UP, TIMED = 4, 20
"""Steps that are made to find out how long one takes: the fastest quarter tells, since others may use the machine."""
OVERHEAD = 1.04
"""Training takes longer than its steps by about this factor: checkpoints, looks at held-out data."""


@dataclass(frozen=True)
class Findings:
    """All that the demo found out."""

    run: Run
    training: Result
    held_out: BitsPerByte
    rivals: Baselines
    file: str
    """The file that made the round trip."""
    trip: RoundTrip
    sample: str
    """What the model made of the prompt."""

    def summary(self) -> dict[str, Any]:
        """The numbers, ready for JSON. Bits per byte of gzip, bz2 and xz are of all held-out files in one piece, which
        suits them best; `each_alone` has them file by file."""
        return {
            "heldout_bits_per_byte": self.held_out.bits_per_byte,
            "heldout_standard_error": self.held_out.standard_error,
            "heldout_documents": self.held_out.documents,
            "heldout_bytes": self.held_out.bytes,
            **{f"{name}_bits_per_byte": value for name, value in self.rivals.solid.items()},
            "xz_primed_bits_per_byte": self.rivals.xz_primed,
            "each_alone": {f"{name}_bits_per_byte": value for name, value in self.rivals.each.items()},
            "train_seconds": self.training.seconds,
            "steps": self.training.step,
            "bytes_seen": self.training.bytes_seen,
            "parameters": parameter_count(self.run.model),
            "precision": self.run.config.training.precision,
            "roundtrip_ok": self.trip.restored,
            "roundtrip": {"file": self.file, **asdict(self.trip)},
            "everlong": everlong.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        }


def run_demo(settings: Settings, folder: Path, *, minutes: float, cache: Path | None = None) -> Findings:
    """Trains for about `minutes`, and looks at the result from all sides.

    Args:
        folder: the run's folder; what it holds already is gone on with.
        cache: where the corpus is kept; by default in the user's own cache.

    Raises:
        ConfigError: the folder holds a run of another configuration, or `minutes` is not above 0.
        TrainingError: it was interrupted; the same call goes on from there.
    """
    check(minutes > 0, "minutes", minutes, "must be above 0; 2.5 is usual")
    keep_freed_memory()  # before steps are timed, as it is while they are made
    codec = ByteCodec()
    corpus = settings.data.open(codec, cache)
    training = settings.training.replace(steps=_steps(settings, corpus, folder, minutes))
    result = train(
        everlong.config(settings.preset, **settings.overrides),
        training,
        folder=folder,
        data=settings.data,
        codec=codec,
        callbacks=[ConsoleProgress()],
        cache=cache,
    )
    if result.interrupted is not None:
        raise TrainingError("demo", f"step {result.step}", "was interrupted; the same command goes on from here")
    return _examined(settings, load_run(folder), result, corpus)


def _examined(settings: Settings, run: Run, result: Result, corpus: Corpus) -> Findings:
    held_out = corpus.validation
    chosen = min(range(len(held_out)), key=lambda i: abs(int(held_out.byte_counts[i]) - settings.file_bytes))
    return Findings(
        run=run,
        training=result,
        held_out=evaluate(run.model, held_out),
        rivals=baselines(held_out, corpus.train),
        file="/".join(Path(held_out.names[chosen]).parts[-2:]),
        trip=round_trip(run.model, run.codec, run.codec.decode(held_out.document(chosen))),
        sample=_sample(settings, run),
    )


def _sample(settings: Settings, run: Run) -> str:
    most, text = settings.sample_tokens, ""
    steps = generate(run.model, run.codec, [settings.prompt], max_tokens=most, sampling=settings.sampling)
    with progress("writing a sample", most) as advance:
        for step in steps:
            text += step.text
            advance(1.0)
    return text


def _steps(settings: Settings, corpus: Corpus, folder: Path, minutes: float) -> int:
    """How many steps to train: those of the run that is there, or as many as fit in the time."""
    if (folder / CONFIG).is_file():
        return read_run(folder)[0].training.steps
    config = settings.training
    model = everlong.build(settings.preset, **settings.overrides)
    loader = Loader(corpus.train, window=config.window, batch=config.batch, seed=config.seed, carry=config.carry)
    trainer = Trainer(config.replace(steps=WARM_UP + TIMED), model, loader)
    taken = []
    with progress("timing steps", (WARM_UP + TIMED) * config.window * config.batch) as advance:
        for _ in range(WARM_UP + TIMED):
            step = trainer.advance()
            taken.append(step.seconds)
            advance(float(step.bytes))
    return max(1, round(60 * minutes / statistics.quantiles(taken[WARM_UP:], n=4)[0] / OVERHEAD))
