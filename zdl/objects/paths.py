"""Paths into an object, as Python would write them: ``batch[3].weights``."""

from __future__ import annotations

from types import NoneType
from typing import Final

_KEY_CHARS_MAX: Final = 80


def step(key: object, *, first: bool) -> str:
    """How a path goes on to the element of a dict: ``.weights`` (``weights`` at its beginning) or ``['a b']``."""
    if isinstance(key, str) and key.isidentifier() and len(key) <= _KEY_CHARS_MAX:
        return key if first else f".{key}"
    return f"[{shown(key)}]"


def shown(key: object) -> str:
    """A key for people, on one line and not too long; a strange object is shown by its type only."""
    if type(key) in (str, bytes):
        cut = repr(key[:_KEY_CHARS_MAX])  # type: ignore[index]
        return cut if len(key) <= _KEY_CHARS_MAX else f"{cut}…"  # type: ignore[arg-type]
    if type(key) in (bool, float, NoneType) or type(key) is int and key.bit_length() <= 64:
        return repr(key)
    if type(key) is tuple and len(key) <= 4:
        return f"({', '.join(map(shown, key))}{',' * (len(key) == 1)})"
    return f"<{type(key).__name__}>"
