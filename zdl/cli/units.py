"""Sizes and durations, as people write them and as they read them.

Sizes are binary: ``64K``, ``1M``, ``2GiB``. Durations: ``250us``, ``250ms``, ``5s``, ``1m``, ``1h``, ``7d``.
"""

from __future__ import annotations

import re
from types import MappingProxyType

import click

_FACTORS = MappingProxyType({"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40})
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_SECONDS = MappingProxyType({"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0})
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)")
# Longer waits than this overflow what the system's timers take; it is for ever to a process.
DURATION_S_MAX = 10 * 365 * 86400.0


class Size(click.ParamType):  # type: ignore[type-arg]
    """A number of bytes above 0."""

    name = "size"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """``"1.5M"`` → 1572864; a number stays what it is.

        Raises:
            click.BadParameter: it is no size, or no whole number of bytes.
        """
        if isinstance(value, int):
            return value
        match = _SIZE.fullmatch(str(value).strip())
        size = float(match[1]) * _FACTORS[match[2].upper()] if match else 0.0
        if size < 1 or not size.is_integer():
            self.fail(f"{str(value)!r} is not a size; write for example 64K, 1M or 2G", param, ctx)
        return int(size)


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, 0 or more."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """``"250ms"`` → 0.25; a number stays what it is.

        Raises:
            click.BadParameter: it is no duration, or longer than ten years.
        """
        if isinstance(value, (int, float)):
            return float(value)
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{str(value)!r} is not a duration; write for example 250ms, 5s or 1h", param, ctx)
        seconds = float(match[1]) * _SECONDS[match[2]]
        if seconds > DURATION_S_MAX:
            self.fail(f"{str(value)!r} is longer than {DURATION_S_MAX / 86400:.0f}d; write for example 24h", param, ctx)
        return seconds


SIZE = Size()
DURATION = Duration()


def size_text(count: float) -> str:
    """1610612736 → ``1.50 GiB``: three digits are what an eye takes in."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"


def duration_text(seconds: float) -> str:
    """0.000271 → ``271 us``."""
    for factor, unit in ((1e-6, "us"), (1e-3, "ms")):
        if seconds < 999.5 * factor:
            return f"{seconds / factor:.3g} {unit}"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} m" if seconds < 7200 else f"{seconds / 3600:.3g} h"
