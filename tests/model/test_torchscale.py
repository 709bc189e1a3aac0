"""torchscale's encoder: its names, its numbers, and every way in which a state dict may not fit.

Legend: B batch rows, N positions, W width.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from everlong.core.config import config_from_dict
from everlong.core.errors import CheckpointError, ConfigError
from everlong.model import torchscale
from everlong.model.torchscale import TorchscaleEncoder, gigapath, load_torchscale
from everlong.testing.compare import assert_near, pattern
from tests.kernels.mutation import mutated
from tests.oracles import torchscale as oracle

SMALL = TorchscaleEncoder.Config(
    layers=2, width=12, heads=3, hidden=20, segment_lengths=(4, 7, 16), dilations=(1, 2, 4)
)
BRANCHES = list(zip(SMALL.segment_lengths, SMALL.dilations, strict=True))


def shapes(layers: int, width: int, hidden: int, normalize_output: bool = True) -> dict[str, tuple[int, ...]]:
    """The names and shapes of torchscale's state dicts, written out from its modules."""
    norm, square = {"weight": (width,), "bias": (width,)}, {"weight": (width, width), "bias": (width,)}
    layer = {
        "self_attn.k_proj": square,
        "self_attn.v_proj": square,
        "self_attn.q_proj": square,
        "self_attn.out_proj": square,
        "self_attn.inner_attn_ln": norm,
        "self_attn_layer_norm": norm,
        "ffn.fc1": {"weight": (hidden, width), "bias": (hidden,)},
        "ffn.fc2": {"weight": (width, hidden), "bias": (width,)},
        "ffn.ffn_layernorm": {"weight": (hidden,), "bias": (hidden,)},
        "final_layer_norm": norm,
    }
    modules = {f"layers.{i}.{name}": shape for i in range(layers) for name, shape in layer.items()}
    if normalize_output:
        modules["layer_norm"] = norm
    return {f"{module}.{name}": shape for module, named in modules.items() for name, shape in named.items()}


def state(config: TorchscaleEncoder.Config = SMALL, prefix: str = "") -> dict[str, Tensor]:
    """Random weights under torchscale's names, so large that every one of them matters."""
    named = shapes(config.layers, config.width, config.hidden, config.normalize_output)
    return {
        prefix + name: 1.5 * torch.randn(shape, dtype=torch.float64) / shape[-1] ** 0.5
        if len(shape) > 1
        else 1 + 0.3 * torch.randn(shape, dtype=torch.float64)
        for name, shape in named.items()
    }


@pytest.mark.parametrize("normalize_output", [True, False])
@pytest.mark.parametrize("N", [1, 6, 21])
def test_is_theirs(N: int, normalize_output: bool) -> None:
    """Output and all gradients, in a row shorter than a segment, and in rows that no segment divides."""
    config = SMALL.replace(normalize_output=normalize_output)
    weights = state(config)
    x_BNW = torch.randn(2, N, config.width, dtype=torch.float64, requires_grad=True)
    encoder = load_torchscale(config, weights).double()
    encoder.load_state_dict(weights)
    found, own = encoder(x_BNW), dict(encoder.named_parameters())
    exact = {name: weight.requires_grad_() for name, weight in weights.items()}
    expected = oracle.encode(exact, x_BNW, config.heads, BRANCHES)
    assert_near(found, expected, 1e-12, "output")
    weight = pattern(found)
    gradients = torch.autograd.grad((found * weight).sum(), [x_BNW, *(own[name] for name in exact)])
    others = torch.autograd.grad((expected * weight).sum(), [x_BNW, *exact.values()])
    for name, one, other in zip(["x", *exact], gradients, others, strict=True):
        assert_near(one, other, 1e-11, f"gradient of {name}")


def test_in_float32() -> None:
    weights = {name: weight.float() for name, weight in state().items()}
    x_BNW = torch.randn(2, 21, SMALL.width)
    found = load_torchscale(SMALL, weights)(x_BNW)
    exact = {name: weight.double() for name, weight in weights.items()}
    assert found.dtype == torch.float32
    assert_near(found, oracle.encode(exact, x_BNW.double(), SMALL.heads, BRANCHES), 1e-5, "output")


MUTANTS = {
    "no inner norm": ("self.inner_attn_ln(o_BNHD.flatten(-2))", "o_BNHD.flatten(-2)"),
    "no norm in the feed-forward": ("self.ffn_layernorm(F.gelu(self.fc1(x_BNW)))", "F.gelu(self.fc1(x_BNW))"),
    "another gelu": ("F.gelu(self.fc1(x_BNW))", 'F.gelu(self.fc1(x_BNW), approximate="tanh")'),
    "norm after the sum": (
        "x_BNW + self.ffn(self.final_layer_norm(x_BNW))",
        "self.final_layer_norm(x_BNW + self.ffn(x_BNW))",
    ),
    "another epsilon": ("eps: float = 1e-5", "eps: float = 1e-3"),
    "keys for queries": ("(self.q_proj, self.k_proj, self.v_proj)", "(self.k_proj, self.q_proj, self.v_proj)"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_catches(name: str) -> None:
    mutant, weights = mutated(torchscale, *MUTANTS[name]), state()
    plain = {key: value for key, value in SMALL.to_dict().items() if key not in ("is", "eps")}
    encoder = mutant.TorchscaleEncoder.Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})
    x_BNW = torch.randn(2, 21, SMALL.width, dtype=torch.float64)
    model = encoder.build().double()
    model.load_state_dict(weights)
    with pytest.raises(AssertionError, match="output: differs by"):
        assert_near(model(x_BNW), oracle.encode(weights, x_BNW, SMALL.heads, BRANCHES), 1e-12, "output")


def test_a_part_of_a_larger_model_loads() -> None:
    """As Prov-GigaPath's encoder stands in its slide encoder, beside other things; and in any precision."""
    weights = state(prefix="encoder.")
    larger = {**weights, "cls_token": torch.zeros(1, 1, 12), "norm.weight": torch.zeros(12)}
    encoder = load_torchscale(SMALL, {name: weight.half() for name, weight in larger.items()}, prefix="encoder.")
    for name, parameter in encoder.named_parameters():
        assert torch.equal(parameter, weights[f"encoder.{name}"].half().float())


def test_state_dicts_that_do_not_fit() -> None:
    name = "layers.1.ffn.fc1.weight"
    missing, more, other = state(), state(), state()
    del missing[name]
    more["layers.2.self_attn.q_proj.weight"] = torch.zeros(12, 12)
    other[name] = torch.zeros(24, 12)
    with pytest.raises(CheckpointError, match=rf"state = '{name}': is missing .* layers"):
        load_torchscale(SMALL, missing)
    with pytest.raises(CheckpointError, match=r"state = 'layers.2.self_attn.q_proj.weight': is not known"):
        load_torchscale(SMALL, more)
    with pytest.raises(
        CheckpointError, match=rf"state.{name} = \(24, 12\): must be \(20, 12\): check width and hidden"
    ):
        load_torchscale(SMALL, other)
    with pytest.raises(CheckpointError, match=r"state = 'layer_norm.bias': is not known .* normalize_output"):
        load_torchscale(SMALL.replace(normalize_output=False), state())
    with pytest.raises(CheckpointError, match=r"state = 'encoder.layer_norm.bias': is missing .* prefix"):
        load_torchscale(SMALL, state(), prefix="encoder.")


@pytest.mark.parametrize(("layers", "width"), [(12, 768), (24, 1024), (12, 1536)])
def test_gigapath_has_their_shapes(layers: int, width: int) -> None:
    with torch.device("meta"):
        encoder = gigapath(layers=layers, width=width).build()
    named = {name: tuple(weight.shape) for name, weight in encoder.state_dict().items()}
    assert named == shapes(layers, width, 4 * width)


@pytest.mark.parametrize(
    ("slide", "tile"), [(262144, 256), (131072, 256), (250_000, 256), (11_776, 256), (262144, 512)]
)
def test_gigapath_has_their_segments(slide: int, tile: int) -> None:
    """Evenly spaced powers of 2, from 1024 to the number of tiles of the largest slide."""
    powers = np.linspace(np.log2(1024), int(np.log2((slide // tile) ** 2)), 5)
    assert gigapath(slide=slide, tile=tile).segment_lengths == tuple(np.power(2, powers).astype(int).tolist())
    with pytest.raises(ConfigError, match=r"slide = 11520: must be at least 46 tiles"):
        gigapath(slide=11520)


def test_config_round_trips_and_is_checked() -> None:
    assert config_from_dict(SMALL.to_dict()) == SMALL
    for field, value in {"heads": 5, "layers": 0, "hidden": 0, "dilations": (1, 2)}.items():
        with pytest.raises(ConfigError, match=field):
            SMALL.replace(**{field: value}).build()
