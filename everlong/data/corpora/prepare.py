"""How unpacked packages become documents, and which of them are held out.

What resembles each other stays on one side: DNA is split by contiguous region or by species, sound by whole recording
(and music by composer), code by whole project, a dictionary by its alphabet. Everything follows from the packages.
"""

from __future__ import annotations

import gzip
import wave
from pathlib import Path

import numpy as np
from jaxtyping import Int16, UInt8

from everlong.core.errors import DataError
from everlong.data.images import patch_scan, read_image, tiles
from everlong.data.store import content_hash

TRAIN, VALIDATION = "train", "validation"


def alphabet(unpacked: Path, out: Path) -> None:
    """A dictionary: 40 stretches of whole entries; the last two, 5 % of the alphabet, are held out, in 20 each."""
    text = gzip.decompress(_only(unpacked, "*.dict.dz").read_bytes())
    _write_pieces(_cut(text, b"\n\n", 40), 2, b"\n\n", out)


def projects(unpacked: Path, out: Path) -> None:
    """Sources of several projects; all of Twisted is held out."""
    for file in sorted(unpacked.rglob("*.py")):
        inside = file.relative_to(unpacked).parts
        side = VALIDATION if inside[0] == "Twisted" else TRAIN
        _write(out / side / "/".join(inside), file.read_bytes())


def human(unpacked: Path, out: Path) -> None:
    """The human rows of an alignment, in the order of the chromosome, in 20 stretches; the last two are held out, in 20
    each.

    Bases in capital letters; a line end stands where the alignment leaves some out. Apes are left out altogether: they
    are nearly the same.
    """
    packed = _only(unpacked, "*chr22*.maf.gz").read_bytes()
    rows = [line.split() for line in gzip.decompress(packed).decode().splitlines() if line.startswith("s Hsap.22")]
    blocks = sorted((int(row[2]), row[6].replace("-", "").upper()) for row in rows)
    text, end = [], None
    for start, bases in blocks:
        text += [bases] if end is None or start == end else ["\n", bases]
        end = start + len(bases)
    _write_pieces(_cut("".join(text).encode(), b"\n", 20), 2, b"\n", out)


def bacteria(unpacked: Path, out: Path) -> None:
    """Whole genomes, one a document, capital letters without line ends; all of Helicobacter pylori is held out.

    Genomes in pieces are left out: they are of strains that are there as a whole.
    """
    for file in sorted(unpacked.rglob("references/*.fasta.gz")):
        species = file.parent.parent.name
        lines = gzip.decompress(file.read_bytes()).split(b"\n")
        bases = b"".join(b"\n" if line.startswith(b">") else line.strip().upper() for line in lines).strip()
        side = VALIDATION if species == "H.Pylori" else TRAIN
        _write(out / side / f"{species}-{file.name.removesuffix('.fasta.gz')}.txt", bases)


def speech(unpacked: Path, out: Path) -> None:
    """Recordings of one speaker; about 10 % of them are held out, chosen by their content."""
    for file in sorted(unpacked.rglob("*.wav")):
        sound = _sound(file)
        _write(out / _side_of(sound) / f"{file.parent.name}-{file.stem}.ulaw", sound)


def speech16(unpacked: Path, out: Path) -> None:
    """The same recordings, on the same sides, as they are: two bytes a sample, the lower first."""
    for file in sorted(unpacked.rglob("*.wav")):
        samples_N, side = _samples(file), _side_of(_sound(file))
        _write(out / side / f"{file.parent.name}-{file.stem}.s16le", samples_N.astype("<i2").tobytes())


def photos(unpacked: Path, out: Path) -> None:
    """Photographs in squares of 64 x 64 pixels, each a document in patches of 4 x 4; one, of a cat, is held out."""
    for name in ("astronaut", "chelsea", "coffee", "motorcycle_left"):
        image_HWC = read_image(_only(unpacked, f"skimage/data/{name}.png"))
        for i, tile_SSC in enumerate(tiles(image_HWC, 64)):
            _write(out / (VALIDATION if name == "chelsea" else TRAIN) / f"{name}-{i:03}.rgb", patch_scan(tile_SSC, 4))


def music(unpacked: Path, out: Path) -> None:
    """Five pieces by three composers; the only one by Manolo Camp is held out."""
    for file in sorted(unpacked.rglob("*.wav")):
        held = file.name.startswith("manolo_camp")
        _write(out / (VALIDATION if held else TRAIN) / f"{file.stem}.ulaw", _sound(file))


def mu_law(samples_N: Int16[np.ndarray, " n"]) -> UInt8[np.ndarray, " n"]:
    """16-bit samples as 8 bits each (ITU-T G.711): sign, 3 bits of exponent, 4 of mantissa, all inverted."""
    wide_N = samples_N.astype(np.int32)
    size_N = np.minimum(np.abs(wide_N), 32635) + 132
    exponent_N = np.searchsorted(1 << np.arange(8, 15), size_N, side="right")
    mantissa_N = (size_N >> (exponent_N + 3)) & 15
    sign_N = np.where(wide_N < 0, 128, 0)
    return (255 - (sign_N | exponent_N << 4 | mantissa_N)).astype(np.uint8)


def _sound(path: Path) -> bytes:
    """A recording as one byte a sample."""
    return mu_law(_samples(path)).tobytes()


def _side_of(sound: bytes) -> str:
    return VALIDATION if int(content_hash(sound)[:8], 16) < 2**32 // 10 else TRAIN


def _samples(path: Path) -> Int16[np.ndarray, " n"]:
    """A recording of 16-bit mono."""
    with wave.open(str(path), "rb") as file:
        shape = file.getnchannels(), file.getsampwidth()
        if shape != (1, 2):
            raise DataError("recording", path.name, f"has {shape[0]} channels of {shape[1]} bytes; 1 of 2 is needed")
        frames = file.readframes(file.getnframes())
    return np.frombuffer(frames, "<i2").astype(np.int16)


def _cut(text: bytes, border: bytes, pieces: int) -> list[bytes]:
    """Stretches of about equal length that end where a border begins; the border is left out."""
    cut, start = [], 0
    for piece in range(1, pieces):
        stop = text.index(border, len(text) * piece // pieces)
        cut.append(text[start:stop])
        start = stop + len(border)
    return [*cut, text[start:]]


def _write_pieces(pieces: list[bytes], held: int, border: bytes, out: Path) -> None:
    """Long stretches to train on. Those held out are cut again, since an interval needs many documents."""
    for i, piece in enumerate(pieces[:-held]):
        _write(out / TRAIN / f"{i:02}.txt", piece)
    for i, piece in enumerate(pieces[-held:], len(pieces) - held):
        for j, part in enumerate(_cut(piece, border, 20)):
            _write(out / VALIDATION / f"{i:02}-{j:02}.txt", part)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise DataError("package", pattern, f"matches {len(found)} files instead of one: the package has changed")
    return found[0]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
