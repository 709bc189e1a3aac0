"""`against.py` on human DNA; `everlong data fetch chr22` first."""

import runpy
from pathlib import Path

from everlong.data.corpora import sources
from everlong.lab import Study
from everlong.train import DataConfig

study_on = runpy.run_path(str(Path(__file__).with_name("against.py")))["study_on"]


def study() -> Study:
    training, validation = sources(("chr22",), ())
    return study_on("against_dna", DataConfig(sources=training, validation_sources=validation))
