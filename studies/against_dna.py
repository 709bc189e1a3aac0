"""`against.py` on human DNA; `everlong data fetch chr22` first."""

import runpy
from pathlib import Path

from everlong.data.corpora import sources
from everlong.lab import Study
from everlong.train import DataConfig

against = runpy.run_path(str(Path(__file__).with_name("against.py")))["against"]


def study() -> Study:
    training, validation = sources(("chr22",), ())
    return against("against_dna", DataConfig(sources=training, validation_sources=validation))
