"""The loader against an oracle that looks every token up, and against itself after every possible stop."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from everlong.core.errors import CheckpointError, DataError
from everlong.data import IGNORED, Batch, ByteCodec, Loader, StoreWriter, TokenStore, open_corpus

BOS, EOS = 10_000, 10_001


class Numbered(ByteCodec):
    """A vocabulary so large that no content token occurs twice; token i stands for 1 + i % 5 bytes."""

    vocabulary, bos, eos, pad = BOS + 3, BOS, EOS, BOS + 2

    def byte_lengths(self):
        lengths_V = 1 + np.arange(self.vocabulary) % 5
        lengths_V[BOS:] = 0
        return lengths_V


def store_of(*lengths: int) -> TokenStore:
    """Documents of these lengths, all tokens distinct."""
    offsets = np.cumsum([0, *(length + 2 for length in lengths)])
    tokens = np.arange(offsets[-1], dtype=np.uint32)
    tokens[offsets[:-1]], tokens[offsets[1:] - 1] = BOS, EOS
    names = tuple(map(str, range(len(lengths))))
    return TokenStore(tokens, np.asarray(lengths), offsets, names, names, Numbered())


@dataclass
class Oracle:
    """The ring, token by token: what follows, and whose it is."""

    store: TokenStore

    def __post_init__(self):
        self.ring = self.store.tokens.tolist()
        self.owner = [i for i in range(len(self.store)) for _ in self.store.document(i)]

    def place(self, row: list[int]) -> int:
        """Where a row with its last target begins; a content token within it tells."""
        k = next(k for k, token in enumerate(row) if token < BOS)
        return (self.ring.index(row[k]) - k) % len(self.ring)

    def check(self, batch: Batch, carry: bool) -> None:
        lengths, size = self.store.codec.byte_lengths(), len(self.ring)
        borders = False
        for b, (ids, targets) in enumerate(zip(batch.ids_BT.tolist(), batch.targets_BT.tolist(), strict=True)):
            last = BOS if targets[-1] == IGNORED else targets[-1]
            start = self.place([*ids, last])
            wanted = [self.ring[(start + t) % size] for t in range(len(ids) + 1)]
            assert ids == wanted[:-1]
            assert targets == [IGNORED if token == BOS else token for token in wanted[1:]]
            assert batch.byte_count_B[b] == sum(lengths[token] for token in wanted[1:])
            borders |= BOS in ids[1:]
            if batch.documents_BT is not None:
                self.check_documents(batch.documents_BT[b].tolist(), ids, start)
        assert (batch.documents_BT is not None) == (borders or carry)
        assert batch.byte_count == sum(lengths[token] for token in batch.targets_BT.flatten().tolist() if token >= 0)
        assert batch.learnt == sum(token >= 0 for token in batch.targets_BT.flatten().tolist())

    def check_documents(self, numbers: list[int], ids: list[int], start: int) -> None:
        for t, number in enumerate(numbers):
            assert number % len(self.store) == self.owner[(start + t) % len(self.ring)]
            assert t == 0 or number - numbers[t - 1] == (ids[t] == BOS)


def same(a: Batch, b: Batch) -> bool:
    documents = (a.documents_BT, b.documents_BT)
    return (
        torch.equal(a.ids_BT, b.ids_BT)
        and torch.equal(a.targets_BT, b.targets_BT)
        and torch.equal(a.byte_count_B, b.byte_count_B)
        and (documents == (None, None) or (None not in documents and torch.equal(*documents)))
        and a.fresh == b.fresh
    )


lengths = st.lists(st.integers(1, 20), min_size=1, max_size=12)
loaders = {"window": st.integers(2, 9), "batch": st.integers(1, 4), "seed": st.integers(0, 99), "carry": st.booleans()}


@given(lengths=lengths, **loaders)
@example(lengths=[1] * 8, window=8, batch=3, seed=0, carry=True)
@example(lengths=[10], window=4, batch=3, seed=0, carry=False)  # exactly one batch
@settings(max_examples=80, deadline=None)
def test_every_batch_is_what_the_stream_says(lengths, window, batch, seed, carry):
    store = store_of(*lengths)
    assume(len(store.tokens) >= window * batch)
    oracle, loader = Oracle(store), Loader(store, window=window, batch=batch, seed=seed, carry=carry)
    for _ in range(2 * loader.steps + 1):
        first = loader.step == 0
        drawn = next(loader)
        assert drawn.ids_BT.shape == drawn.targets_BT.shape == (batch, window)
        assert drawn.fresh == (first or not carry)
        oracle.check(drawn, carry)


@given(lengths=lengths, **loaders)
@settings(max_examples=60, deadline=None)
def test_every_token_is_a_target_once_an_epoch_but_for_less_than_a_batch(lengths, window, batch, seed, carry):
    store = store_of(*lengths)
    size = len(store.tokens)
    assume(size >= window * batch)
    loader = Loader(store, window=window, batch=batch, seed=seed, carry=carry)
    for epoch in range(3):
        seen = Counter()
        while loader.epoch == epoch:
            seen.update(next(loader).targets_BT.flatten().tolist())
        assert size - window * batch < seen.total() <= size
        assert seen.pop(EOS, 0) <= len(store)
        assert seen.pop(IGNORED, 0) <= len(store)
        assert set(seen.values()) <= {1}


@given(lengths=lengths, **loaders | {"carry": st.just(True)})
@settings(max_examples=60, deadline=None)
def test_carried_rows_go_on_where_they_ended(lengths, window, batch, seed, carry):
    store = store_of(*lengths)
    assume(len(store.tokens) >= window * batch)
    loader = Loader(store, window=window, batch=batch, seed=seed, carry=carry)
    for before, after in pairwise(islice(loader, 3 * loader.steps)):
        if after.fresh:
            continue
        begins = after.ids_BT[:, 0]
        assert torch.where(begins == BOS, IGNORED, begins).tolist() == before.targets_BT[:, -1].tolist()
        step = after.documents_BT[:, 0] - before.documents_BT[:, -1]
        assert step.tolist() == (begins == BOS).tolist()


@pytest.mark.parametrize("carry", [False, True])
def test_stopping_at_every_step_of_three_epochs_changes_nothing(carry: bool):
    def new() -> Loader:
        return Loader(store_of(5, 1, 30, 7, 12, 3, 9, 17), window=4, batch=3, seed=7, carry=carry)

    first = new()
    assert first.steps == 8
    reference = list(islice(new(), 3 * first.steps + 3))
    for stop in range(3 * first.steps + 1):
        state = json.loads(json.dumps(first.state_dict()))
        assert (state["epoch"], state["step"]) == divmod(stop, first.steps)
        second = new()
        next(second)  # a loader in use may be set back too
        second.load_state_dict(state)
        assert all(same(a, b) for a, b in zip(islice(second, 3), reference[stop:], strict=False))
        next(first)


@pytest.mark.parametrize("carry", [False, True])
def test_epochs_and_seeds_differ(carry: bool):
    store = store_of(*range(1, 40))

    def epochs(seed: int) -> list[list[int]]:
        loader = Loader(store, window=8, batch=4, seed=seed, carry=carry)
        return [next(loader).ids_BT.flatten().tolist() for _ in range(2 * loader.steps)][:: loader.steps]

    assert len({tuple(batch) for seed in (0, 1) for batch in epochs(seed)}) == 4


def test_shuffled_tiles_are_in_no_order():
    store = store_of(2000)
    starts = [start for batch in islice(Loader(store, window=10, batch=10, seed=0), 20) for start in batch.ids_BT[:, 0]]
    following = sum(b - a == 10 for a, b in pairwise(starts))
    assert following < 10


@pytest.mark.parametrize("n", [1, 2, 3, 6])
@pytest.mark.parametrize("carry", [False, True])
def test_splitting_a_batch_changes_no_sample(n: int, carry: bool):
    for batch in islice(Loader(store_of(50, 3, 80), window=5, batch=6, seed=0, carry=carry), 9):
        pieces = batch.split(n)
        assert [len(piece.ids_BT) for piece in pieces] == [6 // n] * n
        documents = None if batch.documents_BT is None else torch.cat([piece.documents_BT for piece in pieces])
        joined = Batch(
            torch.cat([piece.ids_BT for piece in pieces]),
            torch.cat([piece.targets_BT for piece in pieces]),
            documents,
            torch.cat([piece.byte_count_B for piece in pieces]),
            all(piece.fresh for piece in pieces),
        )
        assert same(joined, batch)
        assert sum(piece.byte_count for piece in pieces) == batch.byte_count
        assert sum(piece.learnt for piece in pieces) == batch.learnt


@pytest.mark.parametrize("n", [0, -1, 4, 7])
def test_a_split_into_unequal_pieces_is_refused(n: int):
    batch = next(Loader(store_of(100), window=5, batch=6, seed=0))
    with pytest.raises(DataError, match=f"split = {n}: must divide the batch's 6 rows"):
        batch.split(n)


def test_a_batch_moves_to_a_device_with_its_byte_count():
    batch = next(Loader(store_of(3, 3, 3, 3), window=10, batch=2, seed=0))
    moved = batch.to("meta")
    assert {moved.ids_BT.device.type, moved.targets_BT.device.type, moved.documents_BT.device.type} == {"meta"}
    assert moved.byte_count == batch.byte_count > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("window", 5), ("batch", 2), ("seed", 1), ("carry", True), ("corpus", "another"), ("corpus", None)],
)
def test_a_state_of_another_corpus_or_setting_is_refused(field: str, value):
    loader = Loader(store_of(50), window=4, batch=3, seed=0)
    state = loader.state_dict() | {field: value}
    with pytest.raises(CheckpointError, match=rf"loader\.{field} = .* here: resume as you began") as caught:
        loader.load_state_dict(state)
    assert caught.value.value == value


def test_the_same_settings_on_another_corpus_are_another_corpus():
    state = Loader(store_of(50), window=4, batch=3, seed=0).state_dict()
    with pytest.raises(CheckpointError, match=r"loader\.corpus"):
        Loader(store_of(20, 28), window=4, batch=3, seed=0).load_state_dict(state)


@pytest.mark.parametrize(
    ("field", "value"),
    [("epoch", -1), ("epoch", "0"), ("epoch", None), ("step", 4), ("step", -1), ("step", True), ("step", 0.0)],
)
def test_a_damaged_state_is_refused_and_changes_nothing(field: str, value):
    loader = Loader(store_of(50), window=4, batch=3, seed=0)
    next(loader)
    before = loader.state_dict()
    with pytest.raises(CheckpointError, match=rf"loader\.{field} = .*is no place in this corpus"):
        loader.load_state_dict(before | {field: value})
    assert loader.state_dict() == before


@pytest.mark.parametrize(("field", "value"), [("window", 0), ("batch", 0), ("batch", -3), ("seed", -1)])
def test_a_setting_out_of_range_is_refused(field: str, value: int):
    with pytest.raises(DataError, match=f"{field} = {value}: must be [01] or more"):
        Loader(store_of(50), **{"window": 4, "batch": 3, "seed": 0} | {field: value})


def test_a_store_smaller_than_a_batch_is_refused_with_numbers():
    store = store_of(9)
    assert Loader(store, window=11, batch=1, seed=0).steps == 1
    with pytest.raises(DataError, match="window x batch = '4 x 3': take 12 tokens, but there are 11: give more data"):
        Loader(store, window=4, batch=3, seed=0)


def test_a_row_within_one_document_has_no_borders():
    """Also where it begins with the document's BOS, or its last target is the next document's."""
    store = store_of(6, 6)  # two documents of 8 tokens
    for batch in islice(Loader(store, window=8, batch=1, seed=0), 60):
        aligned = batch.ids_BT[0, 0] == BOS
        assert (batch.documents_BT is None) == aligned
        assert (batch.targets_BT[0, -1] == IGNORED) == aligned


def test_a_corpus_on_the_disk_is_loaded_and_resumed(tmp_path, fill):
    files = fill(tmp_path / "files", {str(i): bytes([i]) * 50 for i in range(30)})

    def new(window: int = 16) -> Loader:
        corpus = open_corpus(files, codec=ByteCodec(), validation_fraction=0.3, cache=tmp_path)
        return Loader(corpus.train, window=window, batch=4, seed=0)

    loader = new()
    reference = list(islice(new(), 9))
    for _ in range(5):
        next(loader)
    again = new()
    again.load_state_dict(loader.state_dict())
    assert all(same(a, b) for a, b in zip(again, reference[5:], strict=False))
    assert reference[0].byte_count <= reference[0].learnt


def test_a_store_can_be_written_alone(tmp_path):
    with StoreWriter(tmp_path / "store", ByteCodec()) as writer:
        writer.add("a", b"some bytes")
        writer.add("b", b"")
    store = TokenStore.open(tmp_path / "store", ByteCodec())
    assert (store.names, store.total_bytes, len(store.document(-1))) == (("a", "b"), 10, 2)
    for name, content in (("tokens.bin", b"\0\0"), ("documents.json", b'{"names": ["a"], "hashes": ["a"]}')):
        before = (tmp_path / "store" / name).read_bytes()
        (tmp_path / "store" / name).write_bytes(content)
        with pytest.raises(ValueError, match="do not fit together"):
            TokenStore.open(tmp_path / "store", ByteCodec())
        (tmp_path / "store" / name).write_bytes(before)
