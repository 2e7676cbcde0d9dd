"""The models that are configured where a command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.corpus.registry import load_catalogue
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.corpus.catalogue import Entry
    from harness.spec.config import Config

__all__ = ["configured_models"]


def configured_models(config: Config) -> dict[str, Entry]:
    """The catalogue's entries and the user's own, by key; at least one.

    :raises UsageError: there is none, because the command runs outside a checkout and without a ``harness.toml``.
    :raises ConfigError, ModelRefused, DataError: see :func:`harness.corpus.registry.load_catalogue`.
    """
    entries = load_catalogue(config)
    if not entries:
        raise UsageError(
            "no models: there is no configuration with a catalogue or [[models]] here or above",
            where=str(config.root),
            todo="run it in a checkout of the harness, or write a harness.toml: harness init MODEL.onnx",
        )
    return entries
