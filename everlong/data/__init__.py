"""Data: files become documents, documents become token stores, stores become batches.

corpus = open_corpus(["src/", "notes/**/*.md.gz"], codec=ByteCodec())
loader = Loader(corpus.train, window=512, batch=32, seed=0)
batch = next(loader)
"""

from everlong.data.batch import IGNORED, Batch, Batches
from everlong.data.codec import ByteCodec, Codec, codec_from_config
from everlong.data.corpus import Corpus, open_corpus
from everlong.data.document import read_document
from everlong.data.files import expand, standard_library
from everlong.data.loader import Loader
from everlong.data.store import StoreWriter, TokenStore, documents
from everlong.data.tokenizer import TokenizerCodec, codec_of

__all__ = [
    "IGNORED",
    "Batch",
    "Batches",
    "ByteCodec",
    "Codec",
    "Corpus",
    "Loader",
    "StoreWriter",
    "TokenStore",
    "TokenizerCodec",
    "codec_from_config",
    "codec_of",
    "documents",
    "expand",
    "open_corpus",
    "read_document",
    "standard_library",
]
