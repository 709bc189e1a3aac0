"""`everlong compress`."""

from __future__ import annotations

from everlong.cli.arguments import InputFile, OutputFile, RunPath, check_new, load, read
from everlong.cli.tables import show
from everlong.evaluate.output import write_bytes
from everlong.evaluate.round_trip import reached
from everlong.generate import compress as compressed


def compress(
    run: RunPath, file: InputFile, out: OutputFile, /, *, lanes: int | None = None, force: bool = False
) -> None:
    """Compress a file with a model, without loss.

    Arithmetic coding, driven by the model's prediction of every token. Any bytes come back exactly, with `everlong
    decompress`, the same model, and the same machine and version of PyTorch; another model is refused.

    For example:
      everlong compress runs/demo setup.py setup.py.ever

    Args:
        run: the folder of a run
        file: the file, of any content
        out: where to write what it becomes
        lanes: stretches to read side by side; more are faster and compress less. If not given, one for every 16K
            tokens and at most 16
        force: replace OUT if it exists
    """
    check_new(out, force=force)
    data = read(file)
    loaded = load(run)
    fingerprint = loaded.fingerprint
    with reached("compressing", len(data)) as done:
        blob = compressed(loaded.model, loaded.codec, data, fingerprint, lanes=lanes, progress=done)
    write_bytes(out, blob)
    rate = f"{8 * len(blob) / len(data):.4f}" if data else ""
    show(("file", ">bytes", ">compressed", ">bits per byte"), [(str(out), f"{len(data):,}", f"{len(blob):,}", rate)])
