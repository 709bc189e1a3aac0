"""MEGABYTE against a dense transformer over the bytes of photographs, at equal FLOPs: `everlong data fetch photos`.
On speech in `audio.py`.

A document is a square of 64 x 64 pixels, in patches of 4 x 4 pixels of three bytes; MEGABYTE's patches of 12 bytes are
a row of such a patch, alone or with cross-patch attention to half of the row before. Bits per byte are bits per
dimension here. Photographs that are seen and held out are different ones. The context is a sixteenth of a square, since
the dense model pays for all pairs of its bytes. Sized for ten minutes of one CPU core.
"""

from collections.abc import Mapping

from everlong.data.corpora import sources
from everlong.lab import Architecture, EqualFlops, HeldOut, Study, TrainingBytes
from everlong.train import WSD, DataConfig, Muon, Trainer

LOCAL = {"width": 192, "local_width": 64, "local_heads": 2}
PATCH = 12


def study() -> Study:
    across = {"across": {"patch": PATCH, "overlap": PATCH // 2}}
    return study_on("images", "photos", {"megabyte": {"patch": PATCH}, **across})


def study_on(name: str, corpus: str, hierarchies: Mapping[str, Mapping[str, int]]) -> Study:
    """The study on a corpus that is not text, with MEGABYTEs in the patches given."""
    training, validation = sources((corpus,), ())
    return Study(
        name=name,
        architectures=(
            Architecture(
                name="transformer", preset="transformer:nano", overrides={"width": 64, "heads": 2, "layers": 2}
            ),
            *(
                Architecture(name=own, preset="megabyte:nano", overrides={**LOCAL, **patches})
                for own, patches in hierarchies.items()
            ),
        ),
        matching=(EqualFlops(),),
        budget=TrainingBytes(bytes=500_000),
        learning_rates=(0.003, 0.01),
        seeds=(0, 1, 2),
        training=Trainer.Config(
            steps=1,
            window=768,
            batch=8,
            optimizer=Muon.Config(),
            schedule=WSD(decay=0.5),
            evaluate_every=None,
            checkpoint_every=1000,
            keep=1,
        ),
        data=DataConfig(sources=training, validation_sources=validation),
        held_out=HeldOut(bytes=100_000),
        at_once=2,
    )
