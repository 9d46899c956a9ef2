"""A state dict of many leaves, and the message that lends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack
from zdl.options import PackOptions
from zdl.refs import Source

SHAPE = (32, 32)
# Whatever has more than a byte is lent.
LENDING = PackOptions(inline_bytes_max=1, beside_bytes_max=1)

State = Mapping[str, NDArray[Any]]


def state_of(leaves_count: int) -> State:
    """So many arrays by name."""
    return {f"model.layers.{number}.weight": np.zeros(SHAPE, np.float32) for number in range(leaves_count)}


def lending(body: object) -> tuple[bytes, ...]:
    """The parts of a message that lends all arrays of its body."""
    def lent(manifest: Manifest, leaves: Sequence[Lent]) -> Source:
        return Source("site-1.worker-0", b"i" * 16, b"s" * 16, manifest.bytes_total)

    return tuple(bytes(part) for part in pack(body, options=LENDING, lend=lent).parts)


def lending_message(leaves_count: int, to: str) -> tuple[bytes, ...]:
    """The parts of one that lends such a state, and says to whom it shall go on."""
    return lending({"model": state_of(leaves_count), "lr": 0.1, "to": to})
