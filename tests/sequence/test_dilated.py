"""Dilated attention against the multiset oracle, with gradients; and every error that a wrong schedule gets.

Legend: B batch rows, N positions, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import everlong
from everlong.core.errors import ConfigError, ContextError
from everlong.kernels.attention import attention, attention_backend
from everlong.sequence import dilated_geometry
from everlong.sequence.dilated import DilatedAttention, dilated_attention
from everlong.sequence.dilated_geometry import Geometry, Stretch
from everlong.sequence.dilation import branches
from everlong.sequence.position import Rotary, XPos
from everlong.testing.compare import assert_near, pattern
from everlong.testing.split_invariant import run as run_stream
from everlong.testing.stream import Stream, random_layout
from tests.kernels.mutation import mutated
from tests.laws.test_placement_invariant import oracle_of
from tests.oracles import dilated as oracle
from tests.sequence.dilated_problems import Problem, problem

PROBLEMS = range(250)
PAPER = ((2048, 4096, 8192, 16384, 32768), (1, 2, 4, 6, 12))


def expected(case: Problem, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The oracle's output and log-sum-exp."""
    N, H, D = q.shape[1:]
    return oracle.attend(q, k, v, oracle.counts(N, H, case.branches, case.causal), D**-0.5)


def run(case: Problem, *inputs: Tensor) -> Tensor:
    return dilated_attention(*inputs, case.segment_lengths, case.dilations, causal=case.causal)


def check(case: Problem, dtype: torch.dtype, tolerance: float) -> None:
    """Raises AssertionError if output or a gradient is off by `tolerance`."""
    exact, inputs = case.leaves(), case.leaves(dtype)
    y, found = expected(case, *exact)[0], run(case, *inputs)
    assert found.dtype == dtype
    assert_near(found, y, tolerance, f"{case.branches}: output")
    weight = pattern(y)
    gradients = torch.autograd.grad((found * weight.to(dtype)).sum(), inputs)
    for name, one, other in zip("qkv", gradients, torch.autograd.grad((y * weight).sum(), exact), strict=True):
        assert_near(one, other, tolerance, f"{case.branches}: gradient of {name}")


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_is_one_softmax_over_a_multiset(backend) -> None:
    with attention_backend(backend):
        for seed in PROBLEMS:
            check(problem(seed), torch.float64, 1e-13)


def test_in_float32() -> None:
    for seed in PROBLEMS:
        check(problem(seed), torch.float32, 5e-6)


def test_in_bfloat16_as_exact_as_dense() -> None:
    """Within twice the error that torch's own dense attention makes with bfloat16 numbers of the same size."""
    q, k, v = (torch.randn(2, 200, heads, 16, dtype=torch.bfloat16) for heads in (8, 4, 4))

    def error(attend: Callable[..., Tensor], exact: Callable[..., Tensor]) -> list[float]:
        low, high = ([x.to(dtype).requires_grad_() for x in (q, k, v)] for dtype in (torch.bfloat16, torch.float64))
        found, y = attend(*low), exact(*high)
        weight = pattern(y)
        pairs = zip(
            torch.autograd.grad((found * weight.bfloat16()).sum(), low),
            torch.autograd.grad((y * weight.bfloat16()).sum(), high),
            strict=True,
        )
        return [(a.double() - b).abs().max().item() for a, b in ((found, y), *pairs)]

    def dense(*inputs: Tensor) -> Tensor:
        rows = (x.transpose(1, 2) for x in inputs)
        return F.scaled_dot_product_attention(*rows, is_causal=True, enable_gqa=True).transpose(1, 2)

    counts = oracle.counts(200, 8, [(32, 1), (64, 3), (256, 5)])
    ours = error(
        lambda *x: dilated_attention(*x, (32, 64, 256), (1, 3, 5)), lambda *x: oracle.attend(*x, counts, 16**-0.5)[0]
    )
    theirs = error(dense, dense)
    for name, own, peer in zip(("output", "q", "k", "v"), ours, theirs, strict=True):
        assert own <= 2 * peer, f"{name}: {own:.2g}, dense {peer:.2g}"


def test_gradcheck() -> None:
    inputs = [torch.randn(1, 11, heads, 2, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    assert torch.autograd.gradcheck(lambda *x: dilated_attention(*x, (3, 5, 11), (1, 2, 3)), inputs)


@pytest.mark.parametrize("causal", [True, False])
def test_one_whole_segment_is_dense(causal: bool) -> None:
    q, k, v = (torch.randn(2, 37, 4, 8, dtype=torch.float64) for _ in "qkv")
    found = dilated_attention(q, k, v, [37], [1], causal=causal)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    assert_near(found, F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2), 1e-14, "output")
    longer = dilated_attention(*(x.transpose(1, 2) for x in (q, k, v)), [1000], [1], causal=causal)
    assert torch.equal(longer, found)


def test_rows_without_keys() -> None:
    """Output 0, log-sum-exp -inf, gradient 0: not NaN, and not e^0 of mass."""
    q, k, v = (torch.randn(1, 12, 2, 4, dtype=torch.float64, requires_grad=True) for _ in "qkv")
    pieces = Geometry(branches([6], [3]), 2, 2).pieces(Stretch(1, 0, 12, 0, 12, 0, 12))
    out, lse = attention(q, k, v, pieces)
    kept = torch.tensor([[t % 3 == h for h in range(2)] for t in range(12)])
    assert torch.equal(lse[0].isneginf(), ~kept)
    assert (out[0][~kept] == 0).all()
    gradient = torch.autograd.grad(out.square().sum() + out.sum(), (q, k, v))
    assert all((x[0][~kept] == 0).all() and x.isfinite().all() for x in gradient)


def test_scale() -> None:
    q, k, v = (torch.randn(1, 9, 2, 4, dtype=torch.float64) for _ in "qkv")
    exact = oracle.attend(q, k, v, oracle.counts(9, 2, [(4, 1), (9, 2)]), 0.1)[0]
    assert_near(dilated_attention(q, k, v, [4, 9], [1, 2], scale=0.1), exact, 1e-14, "output")
    with pytest.raises(ConfigError, match=r"scale = 0.0: must be above 0"):
        dilated_attention(q, k, v, [4], [1], scale=0.0)


def test_compiles_as_one_graph() -> None:
    """In a process of its own, without the type checks of the test run, which a compiler cannot trace."""
    command = [sys.executable, "-W", "error::UserWarning", "-m", "tests.sequence.dilated_graph"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("H", "G"), [(12, 12), (12, 4), (12, 1), (2, 2)])
@pytest.mark.parametrize("N", [2048, 5000, 40_000])
def test_few_pieces(N: int, H: int, G: int) -> None:
    """What the operator is called for does not grow with the length: a head has a handful of pieces a branch."""
    geometry = Geometry(branches(*PAPER), H, G)
    assert len(geometry.pieces(Stretch(1, 0, N, 0, N, 0, N))) <= 5 * 2 * 2 * H


def test_a_decode_step_is_few_pieces() -> None:
    """Two a branch at most, for all heads together, and no more work than there are pairs."""
    for H, G in ((12, 12), (12, 4), (12, 2), (2, 1)):
        geometry = Geometry(branches(*PAPER), H, G)
        for t in (0, 1, 5, 2047, 40_001, 10**6 + 7):
            cached = geometry.entries(t)
            pieces = geometry.pieces(Stretch(1, t, 1, 0, 1, cached, cached + 1))
            assert len(pieces) <= 2 * 5 * (1 if G in (1, H) else G)
            done = sum(piece.query.heads * piece.query.length * piece.key.length for piece in pieces)
            assert done == geometry.pairs(t + 1) - geometry.pairs(t)


def test_cache_is_bounded() -> None:
    """At most the sum of ceil(w / r) rows a query head, whatever the length."""
    geometry = Geometry(branches(*PAPER), 12, 12)
    bound = 2048 + 2048 + 2048 + 2731 + 2731
    filled = [geometry.entries(t) for t in (*range(0, 70_000, 61), 32767, 65535, 10**9 - 1)]
    assert bound - 10 < max(filled) <= bound
    for H, G in ((12, 4), (12, 1), (12, 6)):
        shared = Geometry(branches(*PAPER), H, G)
        assert max(shared.entries(t) for t in range(0, 70_000, 61)) * G <= bound * H


def test_pairs_are_counted() -> None:
    for seed in range(40):
        case = problem(seed)
        N, H = case.q_BNHD.shape[1:3]
        counted = oracle.counts(N, H, case.branches).sum().item()
        assert Geometry(branches(case.segment_lengths, case.dilations), H, 1).pairs(N) == counted


@pytest.mark.parametrize(
    ("q", "k", "v", "error", "named"),
    [
        ((1, 0, 1, 4), (1, 0, 1, 4), (1, 0, 1, 4), ContextError, r"at least one position"),
        ((1, 3, 4, 4), (1, 3, 3, 4), (1, 3, 3, 4), ConfigError, r"kv_heads = 3: must divide .* 4"),
        ((1, 3, 4, 0), (1, 3, 4, 0), (1, 3, 4, 0), ConfigError, r"D above 0"),
    ],
)
def test_wrong_tensors(q, k, v, error, named) -> None:
    with pytest.raises(error, match=named):
        dilated_attention(torch.zeros(q), torch.zeros(k), torch.zeros(v), [4], [1])


MUTANTS = {
    "offset counted from position 0": (
        "branch, p, length):",
        "branch, (stretch.position + begin) % branch.dilation, length):",
    ),
    "no tail": (", (stretch.length - tail, tail, 1, 0))", ")"),
    "all heads alike": (
        "offset = (head + self.rotation) % branch.dilation\n            first",
        "offset = 0\n            first",
    ),
    "a row too few": ("rows := branch.kept(length, first)", "rows := max(0, (length - first) // branch.dilation)"),
    "keys are not shifted": ("View(key + run.first,", "View(key,"),
    "segments of another length": ("w, phase = branch.length,", "w, phase = branch.length + 1,"),
    "combs of all key/value heads": (
        "if len({len(tooth) for tooth in teeth}) == 1 and len(steps) <= 1 and forward:",
        "if True:",
    ),
    "diagonals across key/value heads": (
        "return next_row and (shared == 1 or (head.kv, head.slot) == (before.kv, before.slot + 1))",
        "return next_row",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    """Sixty random problems are enough to tell every mutant of the geometry."""
    mutant = mutated(dilated_geometry, *MUTANTS[name])

    def check_all() -> None:
        for seed in range(60):
            case = problem(seed)
            q, k, v = case.leaves()
            (B, N, H), G = q.shape[:3], k.shape[2]
            geometry = mutant.Geometry(branches(case.segment_lengths, case.dilations), H, G)
            out, _ = attention(q, k, v, geometry.pieces(mutant.Stretch(B, 0, N, 0, N, 0, N), case.causal))
            assert_near(out, expected(case, q, k, v)[0], 1e-12, "output")

    with pytest.raises(AssertionError):
        check_all()


class TestPart:
    """Dilated attention as a part: beside the laws, which run over the catalogue."""

    SHAPE: ClassVar[dict[str, Any]] = {"width": 16, "heads": 4, "kv_heads": 2, "position": Rotary.Config()}

    def test_dense_weights_load_and_return(self) -> None:
        """A dense checkpoint in a LongNet of one whole segment gives the dense answers, and the other way round."""
        size = {"layers": 2, "width": 24, "heads": 3, "vocabulary": 17}
        dense = everlong.build("transformer:nano", **size).double()
        whole = everlong.build("longnet:nano", **size, segment_lengths=[64], dilations=[1]).double()
        ids_BT = torch.randint(17, (2, 40))
        for source, target in ((dense, whole), (everlong.build("longnet:nano", **size).double(), dense)):
            target.load_state_dict(source.state_dict())
        whole.load_state_dict(dense.state_dict())
        assert_near(whole(ids_BT).logits, dense(ids_BT).logits, 1e-12, "logits")

    @pytest.mark.parametrize("position", [Rotary.Config(), XPos.Config()])
    @pytest.mark.parametrize("ragged", [False, True], ids=["plain", "ragged"])
    def test_long_rows(self, position, ragged: bool) -> None:
        """Across halved squares and many segments; the laws run with small ones."""
        config = DilatedAttention.Config(
            **{**self.SHAPE, "position": position}, segment_lengths=(64, 250, 600), dilations=(1, 3, 7)
        )
        stream = Stream.random(1, 700, 16)
        stream = random_layout(stream, seed=1, padding=0.05, ends=0.002) if ragged else stream
        part = config.build().double()
        with torch.no_grad():
            found, _ = run_stream(part, stream, [300, 301])
            y_BTD = oracle_of(config)(dict(part.named_parameters()), stream)
        assert_near(found[stream.mask_BT], y_BTD[stream.mask_BT], 1e-12, "output")

    @pytest.mark.parametrize(("heads", "kv_heads"), [(6, 3), (12, 4), (9, 3)])
    def test_slots_that_go_back(self, heads: int, kv_heads: int) -> None:
        """Token by token, where a later key/value head keeps the rows of an offset in an earlier slot."""
        shape = {"width": 2 * heads, "heads": heads, "kv_heads": kv_heads, "position": Rotary.Config()}
        config = DilatedAttention.Config(**shape, segment_lengths=(2, 9, 16), dilations=(1, 3, 5))
        stream, part = Stream.random(2, 30, 2 * heads), config.build().double()
        with torch.no_grad():
            found, _ = run_stream(part, stream, range(1, 30))
            y_BTD = oracle_of(config)(dict(part.named_parameters()), stream)
        assert_near(found, y_BTD, 1e-12, "output")

    def test_state_is_bounded_at_any_length(self) -> None:
        part = DilatedAttention.Config(**self.SHAPE, segment_lengths=(8, 20), dilations=(1, 3)).build()
        most = 2 * 4 * (8 * 2 + 7 * 4) * 4  # keys and values of 4 numbers of 4 bytes: 2 kv heads, 4 query heads
        sizes = [part.state_bytes(T) for T in (*range(200), 10**6 + 7, 10**9 + 19)]
        assert most // 2 < max(sizes) <= most

    def test_first_dilation_must_be_1(self) -> None:
        with pytest.raises(ConfigError, match=r"dilations = \(2,\): must begin with 1"):
            DilatedAttention.Config(**self.SHAPE, segment_lengths=(8,), dilations=(2,)).build()

    def test_rotation_reaches_every_row(self) -> None:
        """With offsets that move on by one, r layers keep every row in every head, which equal layers do not."""
        config = everlong.config("longnet:nano", layers=4, segment_lengths=(4, 16), dilations=(1, 4), rotation=1)
        kept = torch.zeros(3, 16, dtype=torch.bool)
        for block in config.body.blocks:  # type: ignore[attr-defined]
            schedule = [(16, 4)]
            kept |= oracle.counts(16, 3, schedule, rotation=block.mixer.rotation).any(-1)
        assert kept.all()
        equal = oracle.counts(16, 3, [(16, 4)]).any(-1)
        assert equal.double().mean() == 0.25
        with pytest.raises(ConfigError, match="rotation = -1: must be 0 or more"):
            everlong.build("longnet:nano", layers=2, rotation=-1)
