"""`everlong decompress`."""

from __future__ import annotations

from everlong.cli.arguments import InputFile, OutputFile, RunPath, check_new, load, read
from everlong.cli.tables import show
from everlong.evaluate.output import write_bytes
from everlong.evaluate.round_trip import reached
from everlong.generate import decompress as decompressed
from everlong.generate.container import unpack


def decompress(run: RunPath, file: InputFile, out: OutputFile, /, *, force: bool = False) -> None:
    """Restore a file that `compress` made, with the same model.

    The result is compared with the original's SHA-256 before it is written.

    For example:
      everlong decompress runs/demo setup.py.ever setup.py

    Args:
        run: the folder of the run it was compressed with
        file: what `everlong compress` wrote
        out: where to write the original
        force: replace OUT if it exists
    """
    check_new(out, force=force)
    blob = read(file)
    header, _ = unpack(blob)
    loaded = load(run)
    fingerprint = loaded.fingerprint
    with reached("decompressing", header.size) as done:
        data = decompressed(loaded.model, loaded.codec, blob, fingerprint, progress=done)
    write_bytes(out, data)
    show(("file", ">bytes"), [(str(out), f"{len(data):,}")])
