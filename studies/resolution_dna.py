"""`resolution.py` on human DNA, where there are no words; `everlong data fetch chr22` first."""

import runpy
from pathlib import Path

from everlong.data.corpora import sources
from everlong.lab import Study
from everlong.train import DataConfig

study_on = runpy.run_path(str(Path(__file__).with_name("resolution.py")))["study_on"]


def study() -> Study:
    training, validation = sources(("chr22",), ())
    return study_on("resolution_dna", "dna", DataConfig(sources=training, validation_sources=validation), words=False)
