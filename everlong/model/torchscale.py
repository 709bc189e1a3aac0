"""torchscale's LongNet encoder, as a module that its state dicts load into: LongNet, LongViT, Prov-GigaPath.

Legend: B batch rows, N positions, W width, H heads, D head size.

Pre-norm layers with one more norm inside each branch (MAGNETO, Wang et al. 2022, arXiv 2210.06423):

    x = x + out(norm(attention(q(n), k(n), v(n)))),  n = norm(x)
    x = x + fc2(norm(gelu(fc1(norm(x)))))

with LayerNorms and biases everywhere, and dilated attention as torchscale computes it
(`everlong/sequence/torchscale.py`). The names of the submodules are those of its state dicts. An encoder hears both
sides and carries no state, so it is no `Part`. Its dropout and stochastic depth are left out: they are off in
evaluation.

    config = gigapath(layers=12, width=768)
    encoder = load_torchscale(config, safetensors.torch.load_file("slide_encoder.safetensors"), prefix="encoder.")
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.config import Config, Configurable, check, check_divides
from everlong.core.errors import CheckpointError
from everlong.sequence.dilation import branches
from everlong.sequence.torchscale import torchscale_attention


class TorchscaleEncoder(nn.Module, Configurable):
    """Layers of dilated attention and a feed-forward, over vectors that already hold positions."""

    class Config(Config):
        layers: int
        width: int
        """W."""
        heads: int
        """H; divides `width`."""
        hidden: int
        """Size of the feed-forward's inner layer."""
        segment_lengths: tuple[int, ...]
        """w of every branch, growing."""
        dilations: tuple[int, ...]
        """r of every branch, growing."""
        normalize_output: bool = True
        """Whether a norm follows the last layer; LongViT has its own instead."""
        eps: float = 1e-5
        """Added to the variance in every norm."""

    def __init__(self, config: TorchscaleEncoder.Config) -> None:
        super().__init__()
        for name in ("layers", "width", "hidden"):
            check(getattr(config, name) >= 1, name, getattr(config, name), "must be at least 1")
        check_divides(config.heads, config.width, "heads", "width")
        branches(config.segment_lengths, config.dilations)
        self.config = config
        self.layers = nn.ModuleList([_Layer(config) for _ in range(config.layers)])
        self.layer_norm = nn.LayerNorm(config.width, config.eps) if config.normalize_output else nn.Identity()

    def forward(self, x_BNW: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Rows must all be real: where torchscale is given a padding mask, its attention ignores it."""
        for layer in self.layers:
            x_BNW = layer(x_BNW)
        return self.layer_norm(x_BNW)


class _Layer(nn.Module):
    def __init__(self, config: TorchscaleEncoder.Config) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.width, config.eps)
        self.self_attn = _SelfAttention(config)
        self.final_layer_norm = nn.LayerNorm(config.width, config.eps)
        self.ffn = _FeedForward(config)

    def forward(self, x_BNW: Tensor) -> Tensor:
        x_BNW = x_BNW + self.self_attn(self.self_attn_layer_norm(x_BNW))
        return x_BNW + self.ffn(self.final_layer_norm(x_BNW))


class _SelfAttention(nn.Module):
    def __init__(self, config: TorchscaleEncoder.Config) -> None:
        super().__init__()
        self.config = config
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(config.width, config.width) for _ in range(4))
        self.inner_attn_ln = nn.LayerNorm(config.width, config.eps)

    def forward(self, x_BNW: Tensor) -> Tensor:
        q_BNHD, k_BNHD, v_BNHD = (
            project(x_BNW).unflatten(-1, (self.config.heads, -1)) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        o_BNHD = torchscale_attention(q_BNHD, k_BNHD, v_BNHD, self.config.segment_lengths, self.config.dilations)
        return self.out_proj(self.inner_attn_ln(o_BNHD.flatten(-2)))


class _FeedForward(nn.Module):
    def __init__(self, config: TorchscaleEncoder.Config) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)
        self.ffn_layernorm = nn.LayerNorm(config.hidden, config.eps)

    def forward(self, x_BNW: Tensor) -> Tensor:
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x_BNW))))


def load_torchscale(
    config: TorchscaleEncoder.Config, state: Mapping[str, Tensor], prefix: str = ""
) -> TorchscaleEncoder:
    """The encoder with torchscale's weights, in torch's default type whatever they were saved in.

    Args:
        state: torchscale's state dict.
        prefix: what stands before the encoder's names, such as "encoder." where it is part of a larger model; names
            without it are not looked at.

    Raises:
        CheckpointError: a tensor is missing, not known, or of another shape.
    """
    encoder = config.build()
    own = encoder.state_dict()
    given = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    for name in sorted(own.keys() ^ given.keys()):
        remedy = "is missing from the state dict" if name in own else "is not known to the encoder"
        raise CheckpointError("state", prefix + name, f"{remedy}: check layers, normalize_output and prefix")
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            remedy = f"must be {tuple(own[name].shape)}: check width and hidden"
            raise CheckpointError(f"state.{prefix}{name}", tuple(tensor.shape), remedy)
    encoder.load_state_dict(given)
    return encoder


def gigapath(*, layers: int = 12, width: int = 768, slide: int = 262144, tile: int = 256) -> TorchscaleEncoder.Config:
    """Prov-GigaPath's slide encoders: 16 heads, and five branches from 1024 positions up to a whole slide.

    Args:
        slide: side of the largest slide, in pixels.
        tile: side of a tile, in pixels; a tile is a position.

    Raises:
        ConfigError: slides of so few tiles that the branches do not grow.
    """
    check(
        slide // tile > 45, "slide", slide, f"must be at least 46 tiles of {tile} pixels, or the branches do not grow"
    )
    longest = int(math.log2((slide // tile) ** 2))
    lengths = tuple(int(2 ** (10 + (longest - 10) * i / 4)) for i in range(5))
    return TorchscaleEncoder.Config(
        layers=layers,
        width=width,
        heads=16,
        hidden=4 * width,
        segment_lengths=lengths,
        dilations=(1, 2, 4, 8, 16),
    )
