"""The corpora that can be fetched. Versions and checksums are those of the packages that they were made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from everlong.core.config import suggest
from everlong.core.errors import DataError
from everlong.data.corpora import prepare
from everlong.data.corpora.packages import Package


@dataclass(frozen=True)
class Corpus:
    """A corpus and how to make it."""

    kind: str
    about: str
    licence: str
    held_out: str
    """What is held out, and so kept apart from what resembles it."""
    packages: tuple[Package, ...]
    prepare: Callable[[Path, Path], None]
    """Fills an empty folder with `train` and `validation`, from one that has each package's files under its name."""
    digest: str
    """What `fetch.digest` gives of the result, wherever it is made."""


RECORDINGS = Package(
    "debian",
    "asterisk-core-sounds-en-wav",
    "1.6.1-1",
    18_272_864,
    "2be3ea287d83299d143815fa804f11179a75b7affd4a758b98b55f5afc18a35d",
)
"""Of one speaker, for both corpora of speech."""

CORPORA: dict[str, Corpus] = {
    "dictionary": Corpus(
        kind="text",
        about="the GNU Collaborative International Dictionary of English",
        licence="GPL-2+",
        held_out="the last 5 % of the alphabet",
        packages=(
            Package(
                "debian",
                "dict-gcide",
                "0.48.5+nmu2",
                14_800_692,
                "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
            ),
        ),
        prepare=prepare.alphabet,
        digest="b619950bc66026f1342a2f28b0e3ee9276aae3ded1445a0d7fe71a1bd7547302",
    ),
    "python": Corpus(
        kind="code",
        about="sources of SymPy, Django, NetworkX, NLTK and Twisted",
        licence="BSD-3-Clause (SymPy, Django, NetworkX), Apache-2.0 (NLTK), MIT (Twisted)",
        held_out="one project, Twisted",
        packages=(
            Package(
                "pypi", "sympy", "1.13.3", 6_189_483, "54612cf55a62755ee71824ce692986f23c88ffa77207b30c1368eda4a7060f73"
            ),
            Package(
                "pypi", "Django", "5.1.4", 8_276_471, "236e023f021f5ce7dee5779de7b286565fdea5f4ab86bae5338e3f7b69896cf0"
            ),
            Package(
                "pypi",
                "networkx",
                "3.4.2",
                1_723_263,
                "df5d4365b724cf81b8c6a7312509d0c22386097011ad1abe274afd5e9d3bbc5f",
            ),
            Package(
                "pypi", "nltk", "3.9.1", 1_505_442, "4fa26829c5b00715afe3061398a8989dc643b92ce7dd93fb4585a70930d168a1"
            ),
            Package(
                "pypi",
                "Twisted",
                "24.11.0",
                3_188_667,
                "fe403076c71f04d5d2d789a755b687c5637ec3bcd3b2b8252d76f2ba65f54261",
            ),
        ),
        prepare=prepare.projects,
        digest="08ba06f28209f9ed606bf9682b11f9896e0385717a5a02f4a724bcec5b71df46",
    ),
    "chr22": Corpus(
        kind="DNA",
        about="21.6 million bases of human chromosome 22, of Ensembl's alignment of five primates",
        licence="CeCILL (the package; Ensembl asks for no more than to be named)",
        held_out="the last 10 % of the chromosome; apes are left out",
        packages=(
            Package(
                "debian",
                "maffilter-examples",
                "1.3.1+dfsg-4",
                79_214_344,
                "16a25c6cdbe6b89bb6520bb6f192e75abf348602f98b5481f37d8a13d56ee8cc",
            ),
        ),
        prepare=prepare.human,
        digest="663d671ec75ae53fe935e810b5ff421061d4558278c58e13fce0d22af8cba179",
    ),
    "bacteria": Corpus(
        kind="DNA",
        about="whole genomes of Escherichia coli, Vibrio cholerae, Staphylococcus aureus and Helicobacter pylori",
        licence="BSD-3-Clause (the package)",
        held_out="one species, Helicobacter pylori",
        packages=(
            Package(
                "debian",
                "ragout-examples",
                "2.3-4",
                18_434_168,
                "cbe6d0dd8b0e36ef2c93c9b9655955f42019dcd9e9b77388ee58ee54d50bd140",
            ),
        ),
        prepare=prepare.bacteria,
        digest="752e39868030e3987fe940f8cc28e8a8600de30f463bbc99fac5ac7187484c6c",
    ),
    "speech": Corpus(
        kind="audio",
        about="568 recordings of one English speaker, 8 kHz, one byte a sample (mu-law)",
        licence="CC-BY-SA-3.0",
        held_out="10 % of the recordings",
        packages=(RECORDINGS,),
        prepare=prepare.speech,
        digest="ad01cfe4666460bd88159d0760dc7aedfe117183058ba2ac779d861059deaff8",
    ),
    "speech16": Corpus(
        kind="audio",
        about="the same recordings, 16 bits a sample in two bytes (PCM)",
        licence="CC-BY-SA-3.0",
        held_out="10 % of the recordings",
        packages=(RECORDINGS,),
        prepare=prepare.speech16,
        digest="790ce275e91eabb4be8eef4221c7c46655bf8a20a9d531bae11ea2f538ff84a2",
    ),
    "photos": Corpus(
        kind="images",
        about="195 squares of 64 x 64 pixels of three photographs, in patches of 4 x 4 pixels, three bytes each",
        licence="BSD-3-Clause (the package)",
        held_out="28 squares of a fourth photograph, of a cat",
        packages=(
            Package(
                "debian",
                "python3-skimage",
                "0.19.3-8",
                20_713_608,
                "728d88c3e3440f1f3712de0805dc834d29248ff07e1eec8c0f3da07606f752f9",
            ),
        ),
        prepare=prepare.photos,
        digest="ef1952ed002fb75f46a1aff3535222ac79ea48a9fc69ecc049e0994e1e4a599d",
    ),
    "music": Corpus(
        kind="audio",
        about="five pieces by three composers, 8 kHz, one byte a sample (mu-law)",
        licence="CC-BY-SA-3.0",
        held_out="one composer, Manolo Camp",
        packages=(
            Package(
                "debian",
                "asterisk-moh-opsound-wav",
                "2.03-1.1",
                13_969_212,
                "8f9d808a729d305c2d3343993f21ca5e6829e411682618dc8ea7aa8bc24a566c",
            ),
        ),
        prepare=prepare.music,
        digest="ca3ed48125868b23ba2e5b37ee1abf6a947d00a956ea1bcb18c3aa6bb1fb57af",
    ),
}


def corpus(name: str) -> Corpus:
    """A corpus by its name. Raises `DataError`, with the closest name, if there is none."""
    if name not in CORPORA:
        raise DataError("corpus", name, suggest(name, CORPORA))
    return CORPORA[name]
