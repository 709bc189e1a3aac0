"""`against.py` on prose of a dictionary; `everlong data fetch dictionary` first."""

import runpy
from pathlib import Path

from everlong.data.corpora import sources
from everlong.lab import Study
from everlong.train import DataConfig

against = runpy.run_path(str(Path(__file__).with_name("against.py")))["against"]


def study() -> Study:
    training, validation = sources(("dictionary",), ())
    return against("against_text", DataConfig(sources=training, validation_sources=validation))
