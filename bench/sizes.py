"""Sizes as people write them: ``64K``, ``1M``, ``2GiB``; binary throughout."""

from __future__ import annotations

import re

_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def parsed(text: str) -> int:
    """``"1.5M"`` → 1572864.

    Raises:
        ValueError: it is not a number followed by K, M, G, T or nothing, or not a whole number of bytes above 0.
    """
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * _FACTORS[match[2].upper()] if match else 0.0
    if size < 1 or not size.is_integer():
        raise ValueError(f"a size is a number with K, M, G or T, such as 64K or 1M, not {text!r}")
    return int(size)


def written(size_bytes: int) -> str:
    """1048576 → ``"1MiB"``: the largest unit that needs no rounding."""
    for unit in ("T", "G", "M", "K"):
        if size_bytes and size_bytes % _FACTORS[unit] == 0:
            return f"{size_bytes // _FACTORS[unit]}{unit}iB"
    return f"{size_bytes}B"
