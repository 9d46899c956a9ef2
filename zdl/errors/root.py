"""The base of every error of zdl, and how its sentences say a size."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar


def bytes_text(count: int) -> str:
    """A number of bytes for people: ``1.5 MiB``."""
    if abs(count) < 1024:
        return f"{count} B"
    power = min(3, (abs(count).bit_length() - 1) // 10)
    return f"{count / 1024 ** power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"


@dataclass(eq=False)
class ZdlError(Exception):
    """The base of every error of zdl.

    Attributes:
        code: stable name of the class on the wire.
        exit_code: what a zdl command exits with when this error ends it.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        return self.code

    def facts(self) -> dict[str, object]:
        """The attributes by name, all plain values."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
