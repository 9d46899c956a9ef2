"""Sizes as people write them, binary throughout."""

from __future__ import annotations

_FACTORS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def written(size_bytes: int) -> str:
    """1048576 → ``"1MiB"``: the largest unit that needs no rounding."""
    for unit in ("T", "G", "M", "K"):
        if size_bytes and size_bytes % _FACTORS[unit] == 0:
            return f"{size_bytes // _FACTORS[unit]}{unit}iB"
    return f"{size_bytes}B"
