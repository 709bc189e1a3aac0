"""Chunks that are learnt, open in doubt or at spaces, or have a fixed length, against MEGABYTE and byte models without
chunks, at equal FLOPs: on Python source code here, on prose and DNA in `resolution_text.py` and `resolution_dna.py`.

The order to compare with is that of H-Net's Table 2 (arXiv 2507.07955): learned, then at spaces, then fixed, then dense
and state-space models over bytes. Sized for a quarter of an hour of one CPU core each: small models at one learning
rate, read at a context of 512 bytes.

Chunks by entropy need a small model, and join where there is one:

    everlong train window:nano --override layers=1 width=32 heads=1 --steps 400 --batch 16 --out runs/doubt-code

(for the others with `--data dictionary --out runs/doubt-text` and `--data chr22 --out runs/doubt-dna`). Its FLOPs count
as if it were trained with the rest, three forwards a byte, which is two too many.
"""

from collections.abc import Iterator
from pathlib import Path

from everlong.data import ByteCodec
from everlong.generate import entropy_chunker
from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.resolution.chunkers import Chunker, FixedPatches, SpaceLike
from everlong.train import WSD, DataConfig, Muon, Trainer

RATE, OUTER = 5.0, 64
"""Bytes of a chunk, and the width around them."""
SAMPLE = 100_000
"""Bytes of training text that the threshold is picked on."""
SPACES = SpaceLike.Config(width=OUTER, bytes_per_chunk=RATE)
FIXED = FixedPatches.Config(width=OUTER, size=round(RATE))


def study() -> Study:
    return study_on("resolution", "code", DataConfig(validation_fraction=0.1), words=True)


def study_on(name: str, kind: str, data: DataConfig, *, words: bool) -> Study:
    """The study on a corpus, with chunks at spaces where it has words."""
    doubt = Path("runs", f"doubt-{kind}")
    others = [
        Architecture(name="mamba", preset="mamba:nano", overrides={"layers": 3}),
        Architecture(name="hnet", preset="hnet:nano", overrides={"outer_width": OUTER, "bytes_per_chunk": RATE}),
        *([_chunked("spaces", SPACES)] if words else []),
        *([_chunked("entropy", _doubting(doubt, data))] if doubt.is_dir() else []),
        _chunked("fixed", FIXED),
        Architecture(name="megabyte", preset="megabyte:nano"),
    ]
    return Study(
        name=name,
        architectures=(
            Architecture(name="transformer", preset="transformer:nano", overrides={"width": 64, "heads": 2}),
            *others,
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=400_000),
        learning_rates=(0.006,),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=512,
            batch=8,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=1000,
            keep=1,
        ),
        data=data,
        held_out=HeldOut(bytes=200_000),
        at_once=2,
    )


def _chunked(name: str, chunker: Chunker.Config) -> Architecture:
    return Architecture(name=name, preset="hnet:nano", overrides={"outer_width": OUTER, "chunker": chunker})


def _doubting(run: Path, data: DataConfig) -> Chunker.Config:
    return entropy_chunker(run, _sample(data), width=OUTER, bytes_per_chunk=RATE)


def _sample(data: DataConfig) -> Iterator[bytes]:
    """The first training documents."""
    codec, left = ByteCodec(), SAMPLE
    store = data.open(codec).train
    for i in range(len(store)):
        text = codec.decode(store.document(i)[:left])
        yield text
        left -= len(text)
        if left <= 0:
            return
