"""The arrays that are moved: the same for every system, on every day.

``mixed`` has the shape of a small language model: one large embedding, then blocks of a few matrices of 12 MiB,
one of 3 MiB and many vectors of 768 to 3072 numbers. ``single`` is one array, ``equal`` many items of one small size.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
State = dict[str, Array]
Shapes = list[tuple[str, tuple[int, ...]]]

DTYPE = np.dtype(np.float32)
SEED = 20_240_611
KINDS = ("mixed", "single", "equal")

_EMBEDDING = ("embedding", (16_384, 768))
_BLOCK: Shapes = [
    ("norm_1.weight", (768,)), ("norm_1.bias", (768,)),
    ("attention.in.weight", (1024, 3072)), ("attention.in.bias", (3072,)),
    ("attention.out.weight", (1024, 768)), ("attention.out.bias", (768,)),
    ("norm_2.weight", (768,)), ("norm_2.bias", (768,)),
    ("mlp.in.weight", (1024, 3072)), ("mlp.in.bias", (3072,)),
    ("mlp.out.weight", (3072, 1024)), ("mlp.out.bias", (1024,)),
]
_LEAST = 768


@dataclass(frozen=True, slots=True)
class Load:
    """Which arrays.

    Attributes:
        kind: of `KINDS`.
        size_bytes: of all arrays together; a multiple of the 4 bytes of one number.
        items: how many, if ``equal``; they share the size evenly. The others find their own number.
    """

    kind: str
    size_bytes: int
    items: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if self.size_bytes < DTYPE.itemsize or self.size_bytes % DTYPE.itemsize:
            raise ValueError(f"size_bytes must be a multiple of {DTYPE.itemsize} above 0, not {self.size_bytes}")
        if self.kind == "equal" and (self.items < 1 or self.size_bytes % (self.items * DTYPE.itemsize)):
            raise ValueError(f"{self.size_bytes} bytes cannot be shared evenly by {self.items} items of float32")


def shapes(load: Load) -> Shapes:
    """Names and shapes, of exactly the size asked for; follows from the load alone."""
    if load.kind == "single":
        return [("array", (load.size_bytes // DTYPE.itemsize,))]
    if load.kind == "equal":
        length = load.size_bytes // load.items // DTYPE.itemsize
        return [(f"item.{index}", (length,)) for index in range(load.items)]
    found: Shapes = []
    left = load.size_bytes // DTYPE.itemsize
    for name, wanted in _blocks():
        if left < _LEAST:
            break
        shape = _fitted(wanted, left)
        if shape is not None:
            found.append((name, shape))
            left -= _length(shape)
    if left:
        found.append(("rest", (left,)))
    return found


def make(load: Load) -> State:
    """The arrays: float32 in [0, 1), C-contiguous, each in memory of its own; the same values each time."""
    random = np.random.default_rng(SEED)
    return {name: random.random(shape, dtype=np.float32) for name, shape in shapes(load)}


def checksum(state: Mapping[str, Array]) -> int:
    """CRC-32 of all arrays in the order of their names: equal for equal arrays, whatever order they came in."""
    value = 0
    for name in sorted(state):
        value = zlib.crc32(bytes_of(state[name]), value)
    return value


def bytes_of(array: Array) -> memoryview:
    """A view of the array's memory, byte by byte; the array must be C-contiguous."""
    return array.reshape(-1).view(np.uint8).data


def size_bytes(state: Mapping[str, Array]) -> int:
    """Of all arrays together."""
    return sum(array.nbytes for array in state.values())


def _blocks() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The model without end: the embedding, then block after block."""
    yield _EMBEDDING
    index = 0
    while True:
        for name, shape in _BLOCK:
            yield f"block.{index}.{name}", shape
        index += 1


def _fitted(shape: tuple[int, ...], left: int) -> tuple[int, ...] | None:
    """The shape if there is room. A matrix never takes more than half of what is left but gets fewer rows, so
    that a small state is a mix too; a vector that does not fit is left out."""
    if len(shape) == 1:
        return shape if shape[0] <= left else None
    rows = min(shape[0], left // 2 // shape[1])
    return (rows, shape[1]) if rows else None


def _length(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))
