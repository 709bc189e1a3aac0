"""A corpus holds every byte once, and splits by content."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from everlong.core.errors import DataError
from everlong.data import ByteCodec, Codec, documents, open_corpus
from everlong.data import cache as cache_module
from everlong.data import corpus as corpus_module
from everlong.data import progress as progress_module
from tests.data.stored import FILES, cached, contents

# What a corpus holds


def test_every_document_is_kept_with_its_borders_and_byte_count(open_it, codec: Codec):
    corpus = open_it(codec=codec)
    assert contents(corpus.train) | contents(corpus.validation) == FILES
    assert len(corpus.train) + len(corpus.validation) == len(FILES)
    for store in (corpus.train, corpus.validation):
        for i, (name, ids_T, byte_count) in enumerate(documents(store)):
            data = FILES[Path(name).name]
            assert ids_T.tolist() == [codec.bos, *codec.encode(data).tolist(), codec.eos]
            assert ids_T.tolist() == store.document(i).tolist()
            assert byte_count == len(data)
        assert store.total_bytes == sum(map(len, contents(store).values())) == codec.byte_lengths()[store.tokens].sum()
        assert store.bytes_per_token == store.total_bytes / store.offsets[-1]
        assert list(store.names) == sorted(store.names)


def test_tokens_are_mapped_in_the_smallest_type_and_read_only(open_it, monkeypatch):
    store = open_it().train
    assert isinstance(store.tokens, np.memmap)
    assert store.tokens.dtype == np.uint16
    with pytest.raises(ValueError, match="read-only"):
        store.document(0)[0] = 1
    with pytest.raises(IndexError):
        store.document(len(store))
    monkeypatch.setattr(ByteCodec, "vocabulary", (1 << 16) + 1)
    monkeypatch.setattr(ByteCodec, "to_config", lambda self: {"kind": "large"})
    assert open_it().train.tokens.dtype == np.uint32


def test_packed_files_are_the_same_documents(open_it, folder: Path, tmp_path: Path, fill):
    packed = fill(tmp_path / "packed", {name: gzip.compress(data) for name, data in FILES.items()})
    assert open_it(packed).fingerprint == open_it().fingerprint


def test_empty_files_are_left_out_and_counted(open_it, folder: Path, fill):
    before = open_it()
    fill(folder, {"empty": b"", "sub/empty": b"", "packed.gz": gzip.compress(b"")})
    after = open_it()
    assert (before.empty, after.empty) == (0, 3)
    assert after.fingerprint == before.fingerprint


def test_the_default_is_the_standard_library_in_the_users_cache(tmp_path: Path, folder: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(corpus_module, "standard_library", lambda: sorted(folder.iterdir()))
    corpus = open_corpus(codec=ByteCodec(), validation_fraction=0.3)
    assert contents(corpus.train) | contents(corpus.validation) == FILES
    assert len(list((tmp_path / "xdg/everlong/corpora").iterdir())) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_module.default_cache() == tmp_path / ".cache/everlong"


# The split

some_contents = st.lists(st.binary(max_size=3), min_size=2, max_size=12)


def split_of(tmp_path_factory, fill, files: dict[str, bytes]) -> tuple[set[bytes], set[bytes]]:
    """What is in the two halves; a case in which one is empty is no case."""
    folder = tmp_path_factory.mktemp("split")
    try:
        corpus = open_corpus(
            fill(folder / "files", files), codec=ByteCodec(), validation_fraction=0.5, cache=folder / "cache"
        )
    except DataError:
        reject()
    assert len(corpus.train) + len(corpus.validation) + corpus.empty == len(files)
    return set(contents(corpus.train).values()), set(contents(corpus.validation).values())


@given(first=some_contents, more=some_contents)
@settings(max_examples=20, deadline=None)
def test_copies_never_straddle_and_adding_files_moves_no_other(tmp_path_factory, fill, first, more):
    files = {f"f{i}": data for i, data in enumerate(first)}
    train, validation = split_of(tmp_path_factory, fill, files)
    assert not train & validation
    later = split_of(tmp_path_factory, fill, {f"a{i}": data for i, data in enumerate(more)} | files)
    assert train <= later[0]
    assert validation <= later[1]
    assert not later[0] & later[1]


def test_the_fraction_is_kept(tmp_path: Path, fill):
    files = fill(tmp_path / "files", {str(i): str(i).encode() for i in range(400)})
    shares = [
        len(open_corpus(files, codec=ByteCodec(), validation_fraction=f, cache=tmp_path).validation) / 400
        for f in (0.1, 0.5, 0.9)
    ]
    assert np.abs(np.subtract(shares, (0.1, 0.5, 0.9))).max() < 0.08


def test_named_validation_files_are_held_out_with_their_copies(open_it, folder: Path, fill):
    fill(folder, {"copy": FILES["7.bin"], "empty": b""})
    corpus = open_it(validation_sources=[folder / "7.bin", folder / "9.bin"])
    assert set(contents(corpus.validation)) == {"7.bin", "9.bin"}
    assert set(contents(corpus.train)) == set(FILES) - {"7.bin", "9.bin"}
    assert (corpus.withheld, corpus.empty) == (3, 1)  # both files and the copy


def test_one_file_suffices_for_each_named_half(open_it, folder: Path):
    corpus = open_it(folder / "1.bin", validation_sources=folder / "2.bin")
    assert (list(contents(corpus.train)), list(contents(corpus.validation))) == (["1.bin"], ["2.bin"])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(open_it, fraction: float):
    with pytest.raises(DataError, match=r"validation_fraction = .*must lie between 0 and 1"):
        open_it(validation_fraction=fraction)


def test_one_file_cannot_be_split(open_it, folder: Path, fill):
    with pytest.raises(DataError, match=r"1\.bin': cannot be split by whole files: .*--validation"):
        open_it(folder / "1.bin")
    fill(folder / "alike", {"a": b"x", "b": b"x"})
    with pytest.raises(DataError, match=r"'files that are all alike': cannot be split by whole files"):
        open_it(folder / "alike")


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_an_empty_half_is_refused_with_a_fraction_that_works(open_it, tmp_path: Path, fraction: float):
    with pytest.raises(DataError, match=r"validation_fraction = .* documents: set [\d.]+ or (more|less)") as caught:
        open_it(validation_fraction=fraction)
    assert list((tmp_path / "cache/corpora").iterdir()) == []
    better = float(re.findall(r"set ([\d.]+) or", caught.value.remedy)[0])
    assert abs(better - fraction) > 1e-4
    assert {len(open_it(validation_fraction=better).train), len(open_it(validation_fraction=better).validation)} == {
        1,
        38,
    }


def test_halves_without_bytes_are_refused(open_it, folder: Path, fill):
    fill(folder / "empty", {"a": b"", "b": b""})
    with pytest.raises(DataError, match=r"'2 empty files': hold no bytes"):
        open_it(folder / "empty")
    with pytest.raises(DataError, match=r"validation = .*hold no bytes: name others with --validation"):
        open_it(folder / "1.bin", validation_sources=folder / "empty")
    with pytest.raises(DataError, match="'1 files': are all named for validation too"):
        open_it(folder / "1.bin", validation_sources=folder / "1.bin")


def test_unreadable_documents_are_named_and_leave_nothing(open_it, folder: Path, tmp_path: Path, fill):
    fill(folder, {"bad.gz": gzip.compress(b"x" * 100)[:-5]})
    with pytest.raises(DataError, match=r"bad\.gz': begins as gzip but is damaged"):
        open_it()
    assert cached(tmp_path) == []


def test_the_manifest_says_what_was_left_out(open_it, folder: Path, tmp_path: Path, fill):
    fill(folder, {"empty": b""})
    open_it()
    assert json.loads((cached(tmp_path)[0] / "manifest.json").read_text())["empty"] == 1


def test_progress_is_shown_only_when_it_takes_a_while(open_it, capsys, monkeypatch):
    open_it()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress_module, "PATIENCE", -1.0)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws bars on terminals only
    open_it(validation_fraction=0.4)
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading data" in err
