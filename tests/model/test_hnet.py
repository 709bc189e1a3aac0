"""H-Net's published sizes, configurations and weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everlong
from everlong.core.accounting import parameter_count
from everlong.core.errors import CheckpointError, ConfigError
from everlong.model.hnet import load_hnet, multipliers, places_of, read_config

PUBLISHED = {
    "hnet:large": 679_405_312,
    "hnet:xl": 1_270_833_920,
    "hnet2:large": 874_315_264,
    "hnet2:xl": 1_603_492_224,
}
"""680M, 1.3B, 870M and 1.6B in the paper's Table 1; the exact numbers follow from the authors' configurations."""

XL2: dict[str, Any] = {
    "arch_layout": ["m4", ["T1m4", ["T27"], "m4T1"], "m4"],
    "d_model": [1024, 1536, 2048],
    "d_intermediate": [0, 4096, 5504],
    "vocab_size": 256,
    "ssm_cfg": {"chunk_size": 256, "d_conv": 4, "d_state": 128, "expand": 2},
    "attn_cfg": {"num_heads": [16, 16, 16], "rotary_emb_dim": [32, 48, 64], "window_size": [1023, 1023, -1]},
    "tie_embeddings": False,
}
SMALL: dict[str, Any] = {
    **XL2,
    "arch_layout": ["m1", ["t1M1", ["T1"], "m1T1"], "m1"],
    "d_model": [32, 64, 96],
    "d_intermediate": [0, 128, 128],
    "attn_cfg": {"num_heads": [2, 2, 2], "rotary_emb_dim": [8, 16, 24], "window_size": [7, 7, -1]},
}
SMALL["ssm_cfg"] = {**XL2["ssm_cfg"], "d_state": 8}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    with torch.device("meta"):
        assert parameter_count(everlong.build(name)) == PUBLISHED[name]


def test_multipliers() -> None:
    """As the paper gives them for the 2-stage XL (section 3.3), and as its formula does for the others."""
    assert multipliers([1024, 1536, 2048], [3.0, 3.0]) == pytest.approx([3.03, 1.43, 0.71], abs=0.006)
    assert multipliers([1024, 1024, 1536], [3.0, 3.0]) == pytest.approx([2.63, 1.52, 0.71], abs=0.006)
    assert multipliers([1024, 1536], [6.0]) == pytest.approx([2.63, 0.88], abs=0.006)


def test_reads_the_authors_configuration() -> None:
    assert read_config(XL2, (3.0, 3.0)) == everlong.config("hnet2:xl")


def state_dict(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Weights of the authors' names and shapes, from what their code builds, written down module by module."""
    D, hidden = config["d_model"], config["d_intermediate"]
    N, taps = config["ssm_cfg"]["d_state"], config["ssm_cfg"]["d_conv"]
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (256, D[0]), "lm_head.weight": (256, D[0])}

    def network(prefix: str, letters: str, s: int) -> None:
        W, E, H = D[s], 2 * D[s], 2 * D[s] // 64
        for i, letter in enumerate(letters):
            layer = f"{prefix}.layers.{i}"
            shapes[f"{layer}.norm1.weight"] = (W,)
            if letter in "mM":
                mixer = {"in_proj.weight": (2 * E + 2 * N + H, W), "conv1d.weight": (E + 2 * N, 1, taps),
                         "conv1d.bias": (E + 2 * N,), "dt_bias": (H,), "A_log": (H,), "D": (H,),
                         "norm.weight": (E,), "out_proj.weight": (W, E)}  # fmt: skip
            else:
                mixer = {"Wqkv.weight": (3 * W, W), "out_proj.weight": (W, W)}
            shapes.update({f"{layer}.mixer.{name}": shape for name, shape in mixer.items()})
            if letter in "MT":
                shapes[f"{layer}.norm2.weight"] = (W,)
                shapes[f"{layer}.mlp.fc1.weight"] = (2 * hidden[s], W)
                shapes[f"{layer}.mlp.fc2.weight"] = (W, hidden[s])
        shapes[f"{prefix}.rmsnorm.weight"] = (W,)

    def chunked(prefix: str, encoder: str, decoder: str, s: int) -> None:
        network(f"{prefix}.encoder", encoder, s)
        network(f"{prefix}.decoder", decoder, s)
        for name in ("routing_module.q_proj_layer", "routing_module.k_proj_layer", "residual_proj"):
            shapes[f"{prefix}.{name}.weight"] = (D[s], D[s])
        shapes[f"{prefix}.residual_proj.bias"] = (D[s],)
        shapes[f"{prefix}.main_network.pad_dimension"] = (D[s + 1] - D[s],)

    chunked("backbone", "m", "m", 0)
    chunked("backbone.main_network", "tM", "mT", 1)
    network("backbone.main_network.main_network.main_network", "T", 2)
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_reads_the_authors_weights() -> None:
    model, tensors = read_config(SMALL, (3.0, 3.0)).build(), state_dict(SMALL)
    load_hnet(model, tensors)
    own = dict(model.named_parameters())
    assert sum(x.numel() for x in own.values()) == sum(x.numel() for x in tensors.values())
    block = own["body.inner.decoder.blocks.1.feed_forward.gate.weight"]
    fused = tensors["backbone.main_network.decoder.layers.1.mlp.fc1.weight"]
    assert torch.equal(block, fused[128:])  # silu reads the second half
    query = own["body.inner.encoder.blocks.0.inner.q.weight"]
    assert torch.equal(query, tensors["backbone.main_network.encoder.layers.0.mixer.Wqkv.weight"][:64])
    assert model(torch.randint(256, (1, 12))).logits.isfinite().all()


def test_every_parameter_has_a_place() -> None:
    with torch.device("meta"):
        model = everlong.build("hnet2:xl")
    places = dict(places_of(model))
    assert places.keys() == dict(model.named_parameters()).keys()
    assert len(set(places.values())) == len(places)


def test_weights_that_do_not_fit() -> None:
    model, tensors = read_config(SMALL, (3.0, 3.0)).build(), state_dict(SMALL)
    before = model.head.weight.clone()
    wrong = {
        "is missing": {name: x for name, x in tensors.items() if name != "backbone.encoder.rmsnorm.weight"},
        "is of no part": {**tensors, "backbone.extra": torch.zeros(1)},
        r"must be \[256, 32\]": {**tensors, "lm_head.weight": torch.zeros(256, 31)},
    }
    for message, broken in wrong.items():
        with pytest.raises(CheckpointError, match=message):
            load_hnet(model, broken)
    assert torch.equal(model.head.weight, before)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "depth": ({"arch_layout": ["m4", ["T27"], "m4"]}, "layout"),
    "letters": ({"arch_layout": ["m4", ["T1m4", ["X27"], "m4T1"], "m4"]}, "pattern"),
    "a tied head": ({"tie_embeddings": True}, "tie_embeddings"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_configurations(name: str) -> None:
    changes, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        read_config({**XL2, **changes}, (3.0, 3.0))


def test_missing_fields() -> None:
    with pytest.raises(ConfigError, match="ssm_cfg = None: is missing"):
        read_config({name: value for name, value in XL2.items() if name != "ssm_cfg"}, (3.0, 3.0))
