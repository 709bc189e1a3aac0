"""Writes docs/evidence.md, and the pieces of README.md that come from results."""

from everlong.evaluate.output import write_text
from studies.evidence.kept import ROOT, Kept
from studies.evidence.page import page
from studies.evidence.readme import readme

README = ROOT / "README.md"

write_text(ROOT / "docs" / "evidence.md", page(Kept()))
write_text(README, readme(README.read_text(encoding="utf-8"), Kept()))
