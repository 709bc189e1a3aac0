"""The memory's rules: many segments at once against one after the other, stability, and what nothing answers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from everlong.kernels.recall import recall, sigma
from everlong.sequence.infini_memory import Delta, GatedDelta, Linear, Memory, StableDelta, Update
from everlong.testing.compare import assert_near, gradients_of, pattern
from everlong.testing.example import shake

CONFIGS = [Linear.Config(), Delta.Config(), StableDelta.Config(), GatedDelta.Config()]
NAMES = ["linear", "delta", "stable delta", "gated delta"]
DELTAS = list(zip(CONFIGS[1:], NAMES[1:], strict=True))


def built(config: Update.Config, kv_heads: int, head: int) -> Update:
    update = config.build(kv_heads, head).double()
    shake(update)
    return update


def empty(B: int, G: int, E: int) -> Memory:
    return Memory(torch.zeros(B, G, E, E, dtype=torch.float64), torch.zeros(B, G, E, dtype=torch.float64))


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
@pytest.mark.parametrize("fresh", [False, True], ids=["one document", "documents"])
def test_scan_is_write_after_write(config: Update.Config, fresh: bool) -> None:
    """In values to 1e-11, in gradients to 1e-9."""
    update, (B, S, G, N, E) = built(config, 2, 5), (2, 7, 2, 6, 5)
    k, v = (torch.randn(B, S, N, G, E, dtype=torch.float64, requires_grad=True) for _ in "kv")
    fresh_BS = torch.rand(B, S) < 0.3 if fresh else None
    start = Memory(torch.randn(B, G, E, E, dtype=torch.float64), torch.rand(B, G, E, dtype=torch.float64))
    found = update.scan(k, v, start, fresh_BS)
    memory, memories = start, [start]
    for s in range(S):
        if fresh_BS is not None:
            keep_B = (~fresh_BS[:, s]).double()
            memory = Memory(memory.m_BGEF * keep_B[:, None, None, None], memory.z_BGE * keep_B[:, None, None])
        memory = update.write(k[:, s].transpose(1, 2), v[:, s].transpose(1, 2), memory)
        memories.append(memory)
    inputs = {"k": k, "v": v, **dict(update.named_parameters())}
    stacked = Memory(torch.stack([m.m_BGEF for m in memories], 1), torch.stack([m.z_BGE for m in memories], 1))
    gradients = []
    for one, other in ((found.m_BGEF, stacked.m_BGEF), (found.z_BGE, stacked.z_BGE)):
        assert_near(one, other, 1e-11, "memories")
    for m in (found, stacked):
        loss = (m.m_BGEF * pattern(m.m_BGEF)).sum() + (m.z_BGE * pattern(m.z_BGE)).sum()
        gradients.append(gradients_of(loss, inputs.values()))
    for which, one, other in zip(inputs, *gradients, strict=True):
        assert_near(one, other, 1e-9, f"gradient for {which}")


RAGGED = {"1, then 512": [1] + [512] * 8, "8, then 2048": [8] + [2048] * 4, "equal": [256] * 6}


def largest_eigenvalues(config: Update.Config, lengths: list[int], drift: float = 0.0) -> list[float]:
    """Of the matrices with which segments of these lengths multiply what is in the memory: what `write` makes of an
    identity when there is nothing to write."""
    E, update, z_E = 32, config.build(1, 32).double(), torch.zeros(32, dtype=torch.float64)
    generator, found = torch.Generator().manual_seed(0), []
    for i, N in enumerate(lengths):
        k_NE = torch.randn(N, E, generator=generator, dtype=torch.float64) + drift * i * torch.linspace(-1, 1, E)
        identity = Memory(torch.eye(E, dtype=torch.float64)[None, None], z_E[None, None])
        with torch.no_grad():
            after = update.write(k_NE[None, None], torch.zeros_like(k_NE)[None, None], identity)
        if i:  # nothing is in the memory before the first
            found.append(torch.linalg.eigvals(after.m_BGEF[0, 0]).abs().max().item())
        z_E = after.z_BGE[0, 0]
    return found


@pytest.mark.parametrize("lengths", RAGGED.values(), ids=RAGGED)
@pytest.mark.parametrize("drift", [0.0, 1.0])
@pytest.mark.parametrize("config", [StableDelta.Config(), GatedDelta.Config()], ids=["stable delta", "gated delta"])
def test_stable_rules_never_expand(config: Update.Config, lengths: list[int], drift: float) -> None:
    assert max(largest_eigenvalues(config, lengths, drift)) <= 1 + 1e-9


@pytest.mark.parametrize("lengths", [RAGGED["1, then 512"], RAGGED["8, then 2048"]], ids=list(RAGGED)[:2])
def test_the_papers_delta_rule_expands(lengths: list[int]) -> None:
    """Documented, not wished for: where a segment outweighs the past, the memory is amplified hundreds of times."""
    assert max(largest_eigenvalues(Delta.Config(), lengths)) > 100


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_what_was_written_is_recalled(config: Update.Config) -> None:
    """One position, one key: recalled by any query, whatever its size, and again after it is written anew."""
    update, memory = config.build(1, 3).double(), empty(1, 1, 3)
    k, v, w = (torch.randn(1, 1, 1, 3, dtype=torch.float64) for _ in range(3))
    memory = update.write(k, v, memory)
    found, known = recall(sigma(torch.randn(1, 1, 4, 3, dtype=torch.float64)), memory.beside)
    assert known.all()
    assert_near(found, v.expand(1, 1, 4, 3), 1e-12, "the only value")
    with torch.no_grad():
        after, _ = recall(sigma(k), update.write(k, w, memory).beside)
    shared = {"linear": (v + w) / 2, "delta": w / 2, "stable delta": (v / 2 + w) / 2}
    name = NAMES[CONFIGS.index(config)]
    if name in shared:  # sums average; a rule that took back all of v would leave w, but for the normaliser's count
        assert_near(after, shared[name], 1e-12, name)


def test_nothing_is_recalled_from_an_empty_memory() -> None:
    s = torch.rand(1, 1, 4, 3, dtype=torch.float64, requires_grad=True)
    memory = empty(1, 1, 3)
    leaves = [x.requires_grad_() for x in (memory.m_BGEF, memory.z_BGE)]
    value, known = recall(s, memory.beside)
    assert not known.any()
    assert not value.any()
    for gradient in torch.autograd.grad(value.sum(), [s, *leaves]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_the_first_segment_is_written_as_a_sum(config: Update.Config) -> None:
    """0/0 corrects nothing, and leaves no NaN in gradients."""
    update = config.build(2, 4).double()
    k, v = (torch.randn(1, 2, 6, 4, dtype=torch.float64, requires_grad=True) for _ in "kv")
    memory = update.write(k, v, empty(1, 2, 4))
    strength = 0.5 if isinstance(config, GatedDelta.Config) else 1.0
    assert_near(memory.m_BGEF, strength * sigma(k).mT @ v, 1e-12, "memory")
    for gradient in torch.autograd.grad(memory.m_BGEF.sum() + memory.z_BGE.sum(), [k, v]):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("level", [-20.0, -44.0, -50.0, -87.0, -95.0, -103.0, -120.0])
@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_keys_that_write_next_to_nothing(config: Update.Config, level: float) -> None:
    """In single precision, where reciprocals of the weights that they have would overflow."""
    k, v = torch.randn(1, 3, 6, 2, 4) + level, torch.randn(1, 3, 6, 2, 4)
    given = [x.requires_grad_() for x in (k, v)]
    memory = config.build(2, 4).scan(*given, Memory(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4)))
    found = [memory.m_BGEF, memory.z_BGE]
    loss = sum((x / x.detach().abs().amax().clamp(min=1e-30)).square().sum() for x in found)
    assert isinstance(loss, torch.Tensor)
    assert all(x.isfinite().all() for x in (*found, *torch.autograd.grad(loss, given)))


def test_the_gated_rule_begins_as_the_stable_one() -> None:
    """But for what it forgets: equal strengths cancel in what is recalled."""
    gated, stable = GatedDelta.Config(forgetting=1e-9).build(1, 4).double(), StableDelta.Config().build(1, 4)
    k, v = (torch.randn(1, 5, 6, 1, 4, dtype=torch.float64) for _ in "kv")
    s = sigma(torch.randn(1, 6, 1, 3, 4, dtype=torch.float64))
    one, other = (recall(s, update.scan(k, v, empty(1, 1, 4)).beside)[0] for update in (gated, stable))
    assert_near(one, other, 1e-7, "recalled")


def test_forgetting_is_what_was_asked_for() -> None:
    update = GatedDelta.Config(forgetting=0.2).build(1, 2)
    _, decay_BG = update.gates(torch.zeros(1, 3, 1, 2))  # type: ignore[attr-defined]
    assert decay_BG.item() == pytest.approx(torch.tensor(-0.2).exp().item(), rel=1e-5)


def test_sigma_does_not_cancel() -> None:
    """ELU(x) + 1 as written is 0 from -18 on in float32."""
    x = torch.linspace(-60, 20, 1001)
    exact: Tensor = torch.where(x > 0, x.double() + 1, x.double().exp())
    assert ((sigma(x).double() - exact).abs() <= 1e-6 * exact).all()
    assert (torch.nn.functional.elu(x) + 1 == 0).any()
