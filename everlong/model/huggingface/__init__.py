"""Weights of Hugging Face transformers: `Mamba2`, `Mamba`, `Bamba` and `Llama`, loaded and saved by renaming."""

from everlong.model.huggingface.checkpoint import from_huggingface, load_huggingface, save_huggingface, to_huggingface

__all__ = ["from_huggingface", "load_huggingface", "save_huggingface", "to_huggingface"]
