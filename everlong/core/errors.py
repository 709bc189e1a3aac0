"""Errors that teach: each names the field, the value it had, and the remedy."""

from __future__ import annotations


class EverlongError(Exception):
    """Base of every error that Everlong raises on purpose.

    Args:
        field: what is wrong, as the caller wrote it (a config field, a file, an option).
        value: the value it had.
        remedy: what would be valid, or what to do.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        super().__init__(f"{field} = {value!r}: {remedy}")

    def __reduce__(self):  # crosses process borders with its three parts intact
        return type(self), (self.field, self.value, self.remedy)


class ConfigError(EverlongError, ValueError):
    """A configuration that cannot be built."""


class ContextError(EverlongError, ValueError):
    """More positions than the model can take, or a state that does not belong to the call."""


class DataError(EverlongError, ValueError):
    """Data that cannot be read or used."""


class CheckpointError(EverlongError, RuntimeError):
    """A checkpoint or saved state that is damaged, incomplete, or of another model."""


class TrainingError(EverlongError, RuntimeError):
    """Training cannot go on."""


class CompressionError(EverlongError, ValueError):
    """A compressed file that is damaged or was made by another model."""
