"""Weights of Hugging Face transformers, loaded and saved by renaming: `Mamba2`, `Mamba`, `Bamba`, `GraniteMoeHybrid`,
`Llama`."""

from everlong.model.huggingface.checkpoint import from_huggingface, load_huggingface, save_huggingface, to_huggingface

__all__ = ["from_huggingface", "load_huggingface", "save_huggingface", "to_huggingface"]
