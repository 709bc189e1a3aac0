"""Writes docs/evidence.md, and the table of systems in README.md."""

from everlong.evaluate.output import write_text
from studies.evidence.kept import ROOT, Kept
from studies.evidence.page import page
from studies.evidence.systems import put, systems

README = ROOT / "README.md"

write_text(ROOT / "docs" / "evidence.md", page(Kept()))
write_text(README, put(README.read_text(encoding="utf-8"), systems(Kept())))
