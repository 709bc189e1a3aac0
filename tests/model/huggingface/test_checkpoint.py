"""Checkpoints of transformers on shared random weights: logits, decoding, and an exact round trip.

Each document is read on its own: transformers' own CPU path leaks between packed documents, and its Mamba drops the
state between calls of several tokens, so it is no oracle for those.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import everlong
from everlong.core.errors import CheckpointError
from everlong.model.huggingface import from_huggingface, load_huggingface, save_huggingface, to_huggingface
from everlong.testing.compare import assert_near

transformers = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {"vocab_size": 61, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ATTENTION = {"intermediate_size": 40, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 99}
MAMBA2 = {"num_heads": 8, "head_dim": 8, "state_size": 16, "num_hidden_layers": 3, "chunk_size": 8}
TIED = {"tie_word_embeddings": True}
LIMITLESS = (0.0, float("inf"))
ROPE = {"rope_type": "default", "rope_theta": 500.0}
GRANITE = {
    "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 40, "embedding_multiplier": 12,
    "residual_multiplier": 0.22, "attention_multiplier": 0.25, "logits_scaling": 6, "rms_norm_eps": 1e-5,
    "mamba_n_heads": 8, "mamba_n_groups": 2, "mamba_d_state": 16, "mamba_chunk_size": 8,
}  # fmt: skip
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "mamba2, groups": ("Mamba2", MAMBA2 | {"n_groups": 4}),
    "mamba2, tied, limits": ("Mamba2", MAMBA2 | TIED | {"n_groups": 1, "time_step_limit": (0.2, 0.8)}),
    "mamba2, expand 3": ("Mamba2", MAMBA2 | {"n_groups": 2, "num_heads": 12, "expand": 3, "conv_kernel": 3}),
    "mamba, tied": ("Mamba", {"num_hidden_layers": 3, "state_size": 8}),
    "mamba": ("Mamba", {"num_hidden_layers": 2, "time_step_rank": 5, "tie_word_embeddings": False, "expand": 1}),
    "llama": ("Llama", ATTENTION | {"num_hidden_layers": 3, "rope_parameters": ROPE}),
    "bamba": (
        "Bamba",
        ATTENTION
        | {"num_hidden_layers": 3, "attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8}
        | {"mamba_n_groups": 2, "mamba_d_state": 16, "mamba_chunk_size": 8, "rope_parameters": ROPE},
    ),
    "granite": (
        "GraniteMoeHybrid",
        ATTENTION | GRANITE | {"num_hidden_layers": 3, "layer_types": ["mamba", "attention", "mamba"]},
    ),
    "granite, attention, RoPE, tied": (
        "GraniteMoeHybrid",
        ATTENTION | GRANITE | TIED | {"num_hidden_layers": 2, "layer_types": ["attention"] * 2}
        | {"position_embedding_type": "rope", "rope_parameters": ROPE},
    ),
}  # fmt: skip


def theirs(name: str, **more: Any) -> Any:
    """A model of transformers with weights that tell all its parts from each other."""
    kind, numbers = CONFIGS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **SMALL, **copy.deepcopy(numbers | more)
    )  # it writes into what it is given
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            draw = torch.randn_like(parameter)
            parameter.copy_(draw / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.3 * draw.tanh())
    return model


@pytest.fixture(params=CONFIGS)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, everlong.LanguageModel]:
    """A model of transformers, and the same loaded from the folder that it saved."""
    model = theirs(request.param)
    model.save_pretrained(tmp_path)
    return model, load_huggingface(tmp_path).eval()


@torch.no_grad()
def test_logits(pair: tuple[Any, everlong.LanguageModel]) -> None:
    model, own = pair
    ids = torch.randint(3, 61, (2, 37))
    expected = model(input_ids=ids).logits
    assert expected.std() > 0.1
    assert_near(own(ids).logits, expected, 1e-5, "logits")


@torch.no_grad()
def test_decoding(pair: tuple[Any, everlong.LanguageModel]) -> None:
    """A prefill, then single tokens, against the whole at once and against transformers' own steps. It is told where
    they stand, and left alone where its steps forget the limits of step sizes."""
    model, own = pair
    ids = torch.randint(3, 61, (2, 20))
    whole, answer, output = model(input_ids=ids).logits, model(input_ids=ids[:, :15], use_cache=True), own(ids[:, :15])
    cache_name = "cache_params" if hasattr(answer, "cache_params") else "past_key_values"
    for t in range(15, 20):
        output = own(ids[:, t : t + 1], output.state)
        assert_near(output.logits, whole[:, t : t + 1], 1e-5, f"logits at {t}")
        place = {"position_ids": torch.full((2, 1), t)} if cache_name == "past_key_values" else {}
        answer = model(input_ids=ids[:, t : t + 1], use_cache=True, **{cache_name: answer[cache_name]}, **place)
        if getattr(model.config, "time_step_limit", LIMITLESS) == LIMITLESS:
            assert_near(output.logits, answer.logits, 1e-5, f"logits of a step at {t}")


def test_round_trip(pair: tuple[Any, everlong.LanguageModel], tmp_path: Path) -> None:
    """Saved again: the same names and bits, and a folder that transformers loads into the same function."""
    model, own = pair
    model.save_pretrained(tmp_path / "first")
    save_huggingface(own, tmp_path / "second")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name
        assert second[name].dtype == tensor.dtype
    again = type(model).from_pretrained(tmp_path / "second").eval()
    ids = torch.randint(3, 61, (2, 11))
    with torch.no_grad():  # up to the length of chunks, which is no part of the function
        assert_near(again(input_ids=ids).logits, model(input_ids=ids).logits, 1e-5, "logits")


def test_types_are_kept() -> None:
    """Every tensor stays in the type that it was saved in."""
    model = theirs("mamba2, groups")
    tensors = {name: x if "A_log" in name else x.bfloat16() for name, x in model.state_dict().items()}
    settings = model.config.to_dict()
    _, found = to_huggingface(from_huggingface(settings, tensors))
    assert {name: x.dtype for name, x in found.items()} == {name: x.dtype for name, x in tensors.items()}


def test_several_files(tmp_path: Path) -> None:
    model = theirs("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ids = torch.randint(3, 61, (1, 9))
    with torch.no_grad():
        assert_near(load_huggingface(tmp_path)(ids).logits, model(input_ids=ids).logits, 1e-5, "logits")


WRONG = {
    "architecture": ({"model_type": "mamba3"}, {}, "model_type = 'mamba3': did you mean 'mamba"),
    "bias": ({"use_bias": True}, {}, "use_bias = True: cannot be expressed; only False can"),
    "missing field": ({"state_size": None}, {}, "state_size = None: is missing"),
    "other width": ({"hidden_size": 16, "expand": 4}, {}, r"embeddings.weight = \(61, 32\): must be \(61, 16\)"),
    "unknown tensor": ({}, {"backbone.more.weight": torch.ones(1)}, "backbone.more.weight': is not a tensor of this"),
    "missing tensor": ({"num_hidden_layers": 4}, {}, "layers.3.mixer.A_log': is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_checkpoints(case: str) -> None:
    changes, more, message = WRONG[case]
    model = theirs("mamba2, groups")
    with pytest.raises(CheckpointError, match=message):
        from_huggingface(model.config.to_dict() | changes, model.state_dict() | more)


WRONG_GRANITE = {
    "experts": ({"num_local_experts": 4}, "num_local_experts = 4: cannot be expressed; only 0 can"),
    "experts by default": ({"num_local_experts": None}, "num_local_experts = None: is missing"),
    "positions": ({"position_embedding_type": "alibi"}, "position_embedding_type = 'alibi': cannot be expressed"),
    "layers": ({"layer_types": ["mamba", "conv", "mamba"]}, "layer_types = 'conv': cannot be expressed"),
    "too few layers": ({"layer_types": ["mamba"]}, r"layer_types = \['mamba'\]: must name num_hidden_layers = 3"),
    "bias": ({"mamba_proj_bias": True}, "mamba_proj_bias = True: cannot be expressed"),
    "norm": ({"normalization_function": "layernorm"}, "normalization_function = 'layernorm': cannot be expressed"),
    "factor": ({"residual_multiplier": None}, "residual_multiplier = None: is missing"),
    "hidden": ({"shared_intermediate_size": 24}, r"input_linear.weight = \(80, 32\): must be \(48, 32\)"),
}


@pytest.mark.parametrize("case", WRONG_GRANITE)
def test_wrong_granite(case: str) -> None:
    changes, message = WRONG_GRANITE[case]
    model = theirs("granite")
    with pytest.raises(CheckpointError, match=message):
        from_huggingface(model.config.to_dict() | changes, model.state_dict())


def test_factors_come_back() -> None:
    """Settings that are kept as factors are written as they were read, reciprocals too."""
    model = theirs("granite")
    fields = "embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"
    for number in (1, 6, 12.0, 49, 0.22, 13.7, 1 / 3):
        settings = model.config.to_dict() | dict.fromkeys(fields, number)
        found, _ = to_huggingface(from_huggingface(settings, model.state_dict()))
        assert [found[field] for field in fields] == [number] * 4


def test_granite_of_mamba_alone(tmp_path: Path) -> None:
    """Whose cache transformers cannot make; the sizes of the attention that it does not have are the least."""
    model = theirs("granite", layer_types=["mamba"] * 3)
    save_huggingface(own := from_huggingface(model.config.to_dict(), model.state_dict()), tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    ids = torch.randint(3, 61, (1, 9))
    with torch.no_grad():
        for logits in (own(ids).logits, again(input_ids=ids, use_cache=False).logits):
            assert_near(logits, model(input_ids=ids, use_cache=False).logits, 1e-5, "logits")


def test_layers_by_their_older_names() -> None:
    """As checkpoints name them that were saved before transformers 5."""
    model = theirs("granite")
    settings = {name: value for name, value in model.config.to_dict().items() if name != "layer_types"}
    older = settings | {"layers_block_type": ["mamba", "attention", "mamba"], "position_embedding_type": "nope"}
    ids = torch.randint(3, 61, (1, 9))
    with torch.no_grad():
        found = from_huggingface(older, model.state_dict())(ids).logits
        assert_near(found, model(input_ids=ids).logits, 1e-5, "logits")


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a readable JSON file"):
        load_huggingface(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_huggingface(tmp_path)
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="num_hidden_layers = None: is missing"):
        load_huggingface(tmp_path)


@pytest.mark.parametrize("name", ["linear:nano", "hybrid:nano", "transformer:nano"])
def test_not_of_transformers(name: str) -> None:
    """What transformers cannot compute is not saved; a transformer without a limit of its context is no Llama."""
    known = ", ".join(("bamba", "granitemoehybrid", "llama", "mamba", "mamba2"))
    with pytest.raises(CheckpointError, match=f"no architecture that computes this; known: {known}"):
        to_huggingface(everlong.build(name))
