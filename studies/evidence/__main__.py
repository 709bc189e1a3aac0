"""Writes docs/evidence.md."""

from everlong.evaluate.output import write_text
from studies.evidence.kept import ROOT, Kept
from studies.evidence.page import page

write_text(ROOT / "docs" / "evidence.md", page(Kept()))
