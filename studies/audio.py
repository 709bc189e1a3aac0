"""`images.py` on speech, 8,000 samples a second of one byte each (mu-law); `everlong data fetch speech` first.

Patches are of 8 samples, a millisecond, or of 4; the context is about a tenth of a second. Recordings that are heard
and held out are different ones, of one speaker.
"""

import runpy
from pathlib import Path

from everlong.lab import Study

study_on = runpy.run_path(str(Path(__file__).with_name("images.py")))["study_on"]


def study() -> Study:
    return study_on("audio", "speech", {"megabyte": {"patch": 8}, "megabyte.4": {"patch": 4}})
