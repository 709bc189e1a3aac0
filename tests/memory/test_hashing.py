"""The hash against the numbers of the authors' reference code (deepseek-ai/Engram, its defaults)."""

from __future__ import annotations

import pytest
import torch

from everlong import Span
from everlong.core.errors import ConfigError
from everlong.memory.compression import Compression
from everlong.memory.hashing import NGramHash, layer_hashes, splitmixed

VOCABULARY, PAD = 99_092, 2  # of the compressed DeepSeek tokenizer
SENTENCE = [1134, 15695, 237, 2049, 1260, 85761, 237, 12071, 36, 9745, 20232, 290, 16]
"""'Only Alexander the Great could tame the horse Bucephalus.', compressed."""
PRIMES = {
    1: (
        (646403, 646411, 646421, 646423, 646433, 646453, 646519, 646523),
        (646537, 646543, 646549, 646571, 646573, 646577, 646609, 646619),
    ),
    15: (
        (646631, 646637, 646643, 646669, 646687, 646721, 646757, 646771),
        (646781, 646823, 646831, 646837, 646843, 646859, 646873, 646879),
    ),
}
MULTIPLIERS = {
    1: (76632096046245, 4839876093313, 35959672319349),
    15: (28919099099511, 56020370062535, 53929037264533),
}
ADDRESSES = {  # of layer and token, before the heads' tables are put behind each other
    (1, 0): "417228 479277 11032 383138 46642 17954 102944 15908 1336 311707 83314 17558 239192 502156 402774 357036",
    (
        1,
        -1,
    ): "464747 633777 601279 346799 420185 185224 38915 525798 294009 526490 611837 112419 58618 327076 364005 193850",
    (
        15,
        -1,
    ): "231865 177439 254297 521905 8308 233115 45762 193702 210682 54513 483933 133173 216362 292097 490742 480807",
}


def reference() -> dict[int, NGramHash.Config]:
    """The hashes of the reference code's defaults."""
    return layer_hashes([1, 15], vocabulary=VOCABULARY, orders=(2, 3), rows=646_400, heads=8, pad=PAD)


def test_draws_the_reference_codes_multipliers_and_primes() -> None:
    hashes = reference()
    assert {layer: hash.primes for layer, hash in hashes.items()} == PRIMES
    assert {layer: hash.multipliers for layer, hash in hashes.items()} == MULTIPLIERS


def test_longer_orders_keep_the_first_multipliers() -> None:
    hashes = layer_hashes([1, 14], vocabulary=VOCABULARY, orders=(2, 3, 4), rows=16_000_000, heads=8, pad=PAD)
    assert hashes[1].multipliers == (*MULTIPLIERS[1], 73987337458391)
    assert hashes[14].multipliers == (67716810739261, 51510806800915, 30921347202721, 82619226485591)
    assert [hash.rows for hash in hashes.values()] == [384_006_168, 384_016_682]  # as released


@pytest.mark.parametrize(("layer", "token"), ADDRESSES)
def test_addresses_are_the_reference_codes(layer: int, token: int) -> None:
    hash = reference()[layer].build()
    address_1TA, _ = hash(Span.plain_from(torch.tensor([SENTENCE])))
    expected_A = torch.tensor([int(number) for number in ADDRESSES[layer, token].split()])
    assert torch.equal(address_1TA[0, token] - hash.offsets_A, expected_A)


def test_multipliers_of_qwens_tables() -> None:
    """Those that were published, of 248,320 ids and seed 1234."""
    assert splitmixed(248_320, 3, 1234) == (23703573157769, 20109073645365, 8052911324071)
    hash = layer_hashes([0], vocabulary=248_320, orders=(2, 3), rows=11, heads=1, pad=9, seed=1234, draw=splitmixed)[0]
    assert hash.multipliers == (23703573157769, 20109073645365, 8052911324071)


def slowly(hash: NGramHash.Config, ids: list[int]) -> list[list[int]]:
    """Addresses of a document, token by token in Python's own integers."""
    found = []
    for t in range(len(ids)):
        addresses, offset = [], 0
        for order, primes in zip(hash.orders, hash.primes, strict=True):
            mix = 0
            for lag in range(order):
                token = ids[t - lag] if t >= lag else hash.pad
                mix ^= token * hash.multipliers[lag]
            for prime in primes:
                addresses.append(offset + mix % prime)
                offset += prime
        found.append(addresses)
    return found


@pytest.mark.slow
def test_a_million_addresses_are_those_of_plain_python() -> None:
    """Whole, in one piece; cut at random, with the history carried; and packed with another document."""
    config = layer_hashes([1], vocabulary=VOCABULARY, orders=(2, 3, 4, 5), rows=646_400, heads=8, pad=PAD)[1]
    generator = torch.Generator().manual_seed(0)
    ids_T = torch.randint(VOCABULARY, (31_250,), generator=generator)  # times 32 addresses: a million
    expected_TA, hash = torch.tensor(slowly(config, ids_T.tolist())), config.build()
    assert torch.equal(hash(Span.plain_from(ids_T[None]))[0][0], expected_TA)
    history, pieces = None, []
    for piece_T in ids_T.tensor_split(sorted(torch.randint(31_250, (200,), generator=generator).tolist())):
        address_1TA, history = hash(Span.plain_from(piece_T[None]), history)
        pieces.append(address_1TA[0])
    assert torch.equal(torch.cat(pieces), expected_TA)
    packed_1T = torch.cat([ids_T[-500:], ids_T])[None]
    document_1T = (torch.arange(packed_1T.shape[1]) >= 500).long()[None]
    zero_B = torch.zeros(1, dtype=torch.int64)
    span = Span.ragged_from(packed_1T, document_1T, None, zero_B, zero_B - 1)
    assert torch.equal(hash(span)[0][0, 500:], expected_TA)


def test_each_head_has_rows_of_its_own() -> None:
    config = layer_hashes([0], vocabulary=50, orders=(1, 3), rows=10, heads=2, pad=49)[0]
    assert config.primes == ((11, 13), (17, 19))
    address_BTA, _ = config.build()(Span.plain_from(torch.randint(50, (4, 500))))
    ends = torch.tensor([11, 24, 41, 60])
    assert (address_BTA < ends).all()
    assert (address_BTA >= ends - torch.tensor([11, 13, 17, 19])).all()
    assert torch.equal(address_BTA.amax((0, 1)), ends - 1)
    assert config.rows == 60
    assert config.addresses == 4


def test_an_address_depends_on_its_own_tokens_alone() -> None:
    """A change of the token at lag j changes the addresses of the orders above j, and no others."""
    hash = layer_hashes([0], vocabulary=1000, orders=(1, 2, 4), rows=10**6, heads=1, pad=0)[0].build()
    ids_1T = torch.arange(1, 7)[None]
    before = hash(Span.plain_from(ids_1T))[0][0, -1]
    for lag, orders in enumerate([(1, 2, 4), (2, 4), (4,), (4,), ()]):
        other_1T = ids_1T.clone()
        other_1T[0, 5 - lag] = 999
        changed = (hash(Span.plain_from(other_1T))[0][0, -1] != before).tolist()
        assert changed == [order in orders for order in (1, 2, 4)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"vocabulary": 1}, "hash.vocabulary"),
        ({"orders": ()}, "hash.orders"),
        ({"orders": (3, 2)}, "hash.orders"),
        ({"orders": (0, 2)}, "hash.orders"),
        ({"multipliers": (3, 5)}, "hash.multipliers"),
        ({"multipliers": (3, 5, 6)}, "hash.multipliers"),
        ({"multipliers": (3, 5, 2**62 + 1)}, "hash.multipliers"),
        ({"primes": ((7,),)}, "hash.primes"),
        ({"primes": ((7,), ())}, "hash.primes"),
        ({"pad": 10}, "hash.pad"),
        ({"compression": Compression.pack([0, 1, 0])}, "hash.vocabulary"),
    ],
)
def test_refuses_what_it_cannot_hash(change: dict[str, object], field: str) -> None:
    good = {"vocabulary": 10, "orders": (2, 3), "multipliers": (3, 5, 7), "primes": ((7,), (11,)), "pad": 0}
    NGramHash.Config(**good)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        NGramHash.Config(**{**good, **change})  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.parametrize(("argument", "value"), [("rows", 1), ("heads", 0)])
def test_refuses_to_draw_nothing(argument: str, value: int) -> None:
    good = {"vocabulary": 10, "orders": (2,), "rows": 7, "heads": 1, "pad": 0}
    with pytest.raises(ConfigError, match=argument):
        layer_hashes([0], **{**good, argument: value})  # type: ignore[arg-type]
