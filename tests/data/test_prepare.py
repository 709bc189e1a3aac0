"""Corpora as they are prepared from unpacked packages: what is kept, and how it is split."""

from __future__ import annotations

import gzip
import wave
from pathlib import Path

import numpy as np
import pytest

from everlong.core.errors import DataError
from everlong.data.corpora import prepare


def test_mu_law_is_that_of_g711():
    """Known values of the standard, and its way back: the error grows with the size, and the sign is kept."""
    known = {0: 0xFF, -1: 0x7F, 32767: 0x80, -32768: 0x00, 1000: 0xCE, -1000: 0x4E}
    assert prepare.mu_law(np.array(list(known), np.int16)).tolist() == list(known.values())
    every = np.arange(-32768, 32768).astype(np.int16)
    code = 255 - prepare.mu_law(every).astype(int)
    size = ((((code & 15) << 3) + 132) << (code >> 4 & 7)) - 132
    back = np.where(code & 128, -size, size)
    wide = every.astype(int)
    assert (np.abs(back - wide) <= np.maximum(8, np.abs(wide) / 16)).all()
    assert len(set(prepare.mu_law(every).tolist())) == 256


def wav(path: Path, samples: np.ndarray, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples.astype("<i2").tobytes())


def test_sound_is_split_by_whole_recordings(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(60):
        wav(tmp_path / "in" / "digits" / f"{i}.wav", rng.integers(-9000, 9000, 500))
    prepare.speech(tmp_path / "in", tmp_path / "out")
    train, held = ([p.name for p in (tmp_path / "out" / side).iterdir()] for side in ("train", "validation"))
    assert sorted(train + held) == sorted(f"digits-{i}.ulaw" for i in range(60))
    assert 1 <= len(held) <= 14
    prepare.speech16(tmp_path / "in", tmp_path / "wide")
    assert sorted(path.stem for path in (tmp_path / "wide" / "validation").iterdir()) == sorted(n[:-5] for n in held)
    with wave.open(str(tmp_path / "in" / "digits" / f"{held[0][7:-5]}.wav"), "rb") as file:
        assert (tmp_path / "wide" / "validation" / f"{held[0][:-5]}.s16le").read_bytes() == file.readframes(500)
    wav(tmp_path / "stereo" / "a.wav", rng.integers(-9, 9, 500), channels=2)
    with pytest.raises(DataError, match="2 channels"):
        prepare.speech(tmp_path / "stereo", tmp_path / "out")


def test_human_bases_are_split_by_region_and_apes_left_out(tmp_path):
    rng = np.random.default_rng(0)
    starts = np.arange(0, 200_000, 100)
    bases = ["".join(rng.choice(list("ACGTacgt"), 90 if i % 3 else 100)) for i in range(len(starts))]
    blocks = [
        f"a\ns Hsap.22 {start} {len(own)} + 51304566 {own[:50]}--{own[50:]}\ns Ptro.22 5 9 + 50165558 TTTTTTTTT\n"
        for start, own in zip(starts, bases, strict=True)
    ]
    text = "##maf\n" + "\n".join(rng.permutation(blocks))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.chr22.maf.gz").write_bytes(gzip.compress(text.encode()))
    prepare.human(tmp_path / "in", tmp_path / "out")
    train, held = (sorted((tmp_path / "out" / side).iterdir()) for side in ("train", "validation"))
    assert [p.name for p in train] == [f"{i:02}.txt" for i in range(18)]
    assert [p.name for p in held] == [f"{i}-{j:02}.txt" for i in (18, 19) for j in range(20)]
    whole = "\n".join(p.read_text() for p in train + held)
    assert whole.replace("\n", "") == "".join(bases).upper()
    assert whole.count("\n") == sum(len(own) < 100 for own in bases[:-1])


def test_genomes_are_split_by_species(tmp_path):
    for species, name in (("E.Coli", "K12"), ("E.Coli", "DH1"), ("H.Pylori", "G27"), ("H.Pylori", "ELS37")):
        path = tmp_path / "in" / species / "references" / f"{name}.fasta.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(b">one\nACgt\nAC\n>two\nGG\n"))
    (tmp_path / "in" / "H.Pylori" / "draft.fasta.gz").write_bytes(gzip.compress(b">x\nA\n"))
    prepare.bacteria(tmp_path / "in", tmp_path / "out")
    found = {p.relative_to(tmp_path / "out").as_posix(): p.read_bytes() for p in (tmp_path / "out").rglob("*.txt")}
    assert found == dict.fromkeys(
        [
            "train/E.Coli-K12.txt",
            "train/E.Coli-DH1.txt",
            "validation/H.Pylori-G27.txt",
            "validation/H.Pylori-ELS37.txt",
        ],
        b"ACGTAC\nGG",
    )


def test_projects_music_and_the_alphabet(tmp_path):
    for name in ("sympy/a.py", "Twisted/b.py"):
        (tmp_path / "code" / name).parent.mkdir(parents=True)
        (tmp_path / "code" / name).write_text("x = 1")
    prepare.projects(tmp_path / "code", tmp_path / "a")
    assert (tmp_path / "a/train/sympy/a.py").is_file()
    assert (tmp_path / "a/validation/Twisted/b.py").is_file()
    for name in ("macroform-x", "manolo_camp-y"):
        wav(tmp_path / "music" / f"{name}.wav", np.arange(100))
    prepare.music(tmp_path / "music", tmp_path / "b")
    assert [p.name for p in (tmp_path / "b/validation").iterdir()] == ["manolo_camp-y.ulaw"]
    entries = [f"Word{i:04}\n   Meaning {i}." for i in range(4000)]
    (tmp_path / "dict").mkdir()
    (tmp_path / "dict" / "g.dict.dz").write_bytes(gzip.compress("\n\n".join(entries).encode()))
    prepare.alphabet(tmp_path / "dict", tmp_path / "c")
    train, held = (sorted((tmp_path / "c" / side).iterdir()) for side in ("train", "validation"))
    assert (len(train), len(held)) == (38, 40)
    assert "\n\n".join(p.read_text() for p in train + held) == "\n\n".join(entries)
    (tmp_path / "dict" / "h.dict.dz").write_bytes(b"")
    with pytest.raises(DataError, match="2 files instead of one"):
        prepare.alphabet(tmp_path / "dict", tmp_path / "d")
