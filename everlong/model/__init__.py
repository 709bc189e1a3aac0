"""Blocks, stacks, the language model, and the presets."""
