"""Using a model: text, scores and compressed files, all on streamed state; nothing is computed twice.

for step in generate(model, codec, ["def "], max_tokens=200, stop=["\\n\\n"]):
    print(step.text, end="")
for piece in score(model, codec, "war_and_peace.txt"):
    totals.add(piece)
blob = compress(model, codec, data, run.fingerprint)
"""

from everlong.generate.compression import compress, decompress, default_lanes
from everlong.generate.doubt import entropy_chunker, entropy_threshold
from everlong.generate.generation import Step, generate
from everlong.generate.procedures import Scorer, sliding, strided
from everlong.generate.prompts import prefill
from everlong.generate.sampling import Sampling
from everlong.generate.score_files import write_jsonl, write_npy
from everlong.generate.scoring import SURPRISAL, Totals, score, score_documents

__all__ = [
    "SURPRISAL",
    "Sampling",
    "Scorer",
    "Step",
    "Totals",
    "compress",
    "decompress",
    "default_lanes",
    "entropy_chunker",
    "entropy_threshold",
    "generate",
    "prefill",
    "score",
    "score_documents",
    "sliding",
    "strided",
    "write_jsonl",
    "write_npy",
]
