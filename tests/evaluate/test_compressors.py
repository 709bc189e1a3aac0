"""Baselines are what the compressors' own functions give, on the bytes that they are said to be about."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
from pathlib import Path

import pytest

from everlong.core.errors import ConfigError
from everlong.evaluate.compressors import DICTIONARY, baselines, last_bytes, primed_size

XZ = 9 | lzma.PRESET_EXTREME
RAW = [{"id": lzma.FILTER_LZMA2, "preset": XZ, "dict_size": DICTIONARY}]
SOURCE = Path(lzma.__file__).read_bytes()
DOCUMENTS = [SOURCE[:3000], SOURCE[3000:9000], b"x" * 500]


def test_the_dictionary_is_64_mebibytes():
    assert DICTIONARY == 64 * 1024 * 1024


def test_each_and_solid_are_the_sizes_of_direct_calls(stored):
    found, total, joined = baselines(stored(DOCUMENTS)), sum(map(len, DOCUMENTS)), b"".join(DOCUMENTS)
    direct = {
        "gzip": lambda data: gzip.compress(data, 9),
        "bz2": lambda data: bz2.compress(data, 9),
        "xz": lambda data: lzma.compress(data, preset=XZ),
    }
    assert found.each == {name: 8 * sum(len(f(d)) for d in DOCUMENTS) / total for name, f in direct.items()}
    assert found.solid == {name: 8 * len(f(joined)) / total for name, f in direct.items()}
    assert found.xz_primed is None
    assert found.solid["xz"] < found.each["xz"]


def test_primed_xz_is_the_growth_of_one_stream(stored):
    training = [SOURCE[9000:], SOURCE[:1000]]
    found = baselines(stored(DOCUMENTS), stored(training))
    before = lzma.compress(b"".join(training), format=lzma.FORMAT_RAW, filters=RAW)
    after = lzma.compress(b"".join(training + DOCUMENTS), format=lzma.FORMAT_RAW, filters=RAW)
    assert found.xz_primed == 8 * (len(after) - len(before)) / sum(map(len, DOCUMENTS))
    assert found.xz_primed < found.solid["xz"]


def test_primed_xz_reaches_back_over_several_megabytes():
    noise = random.Random(0).randbytes(1 << 16)
    far = [noise, bytes(3 << 20)]
    assert primed_size([noise], far) < 100  # found again, beyond the reach of small dictionaries
    assert primed_size([noise], [bytes(3 << 20)]) > len(noise)


def test_the_limit_keeps_the_last_training_bytes(stored):
    documents, training = stored([b"needle in a haystack" * 3]), stored([b"needle in a haystack" * 3, b"hay" * 100])
    whole, cut = (baselines(documents, training, training_limit=limit).xz_primed for limit in (1000, 300))
    assert whole is not None
    assert cut is not None
    assert whole < cut
    assert cut == baselines(documents, stored([b"hay" * 100])).xz_primed


def test_last_bytes_are_the_end_of_all_documents(stored):
    store, joined = stored([b"abc", b"d", b"efgh"]), b"abcdefgh"
    for limit in range(11):
        assert b"".join(last_bytes(store, limit)) == joined[max(0, len(joined) - limit) :]


@pytest.mark.parametrize("limit", [-1, DICTIONARY + 1])
def test_a_limit_beyond_the_dictionary_is_refused(stored, limit):
    with pytest.raises(ConfigError, match="training_limit"):
        baselines(stored([b"a"]), stored([b"b"]), training_limit=limit)
