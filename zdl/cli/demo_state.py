"""What the demo sends: a state dict with the shapes of GPT-2 small, or the arrays in the files named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from zdl.download.safetensors import read_header
from zdl.errors import CannotPack, OptionError
from zdl.objects.arrays import flatten, restore
from zdl.objects.dtypes import DTYPES

Array = NDArray[np.generic]
State = dict[str, Array]
SEED = 20_240_601
# GPT-2 small: one embedding of each kind, twelve equal layers, a last norm.
WIDTH, LAYERS, VOCABULARY, POSITIONS = 768, 12, 50_257, 1024


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of one GPT-2 small, 475 MiB in float32; the largest last, so that a cut leaves a mixture."""
    yield "wpe.weight", (POSITIONS, WIDTH)
    for layer in range(LAYERS):
        for name, shape in (("ln_1.weight", (WIDTH,)), ("ln_1.bias", (WIDTH,)),
                            ("attn.c_attn.weight", (WIDTH, 3 * WIDTH)), ("attn.c_attn.bias", (3 * WIDTH,)),
                            ("attn.c_proj.weight", (WIDTH, WIDTH)), ("attn.c_proj.bias", (WIDTH,)),
                            ("ln_2.weight", (WIDTH,)), ("ln_2.bias", (WIDTH,)),
                            ("mlp.c_fc.weight", (WIDTH, 4 * WIDTH)), ("mlp.c_fc.bias", (4 * WIDTH,)),
                            ("mlp.c_proj.weight", (4 * WIDTH, WIDTH)), ("mlp.c_proj.bias", (WIDTH,))):
            yield f"h.{layer}.{name}", shape
    yield "ln_f.weight", (WIDTH,)
    yield "ln_f.bias", (WIDTH,)
    yield "wte.weight", (VOCABULARY, WIDTH)


def make(size: int) -> State:
    """A state dict of exactly `size` bytes (rounded up to 4): GPT-2 small, repeated, the last array cut."""
    random = np.random.default_rng(SEED)
    state: State = {}
    left = -(-size // 4)
    copy = 0
    while left:
        for name, shape in shapes():
            if not left:
                break
            count = int(np.prod(shape))
            array = random.standard_normal(min(count, left), np.float32)
            state[f"model-{copy}.{name}" if copy else name] = array.reshape(shape) if count <= left else array
            left -= array.size
        copy += 1
    return state


def load(paths: list[str]) -> State:
    """The arrays in these files, by file and name; a file of another kind is one array of bytes.

    Raises:
        OptionError: a file is missing, unreadable, or not what its name says.
    """
    state: State = {}
    for text in paths:
        path = Path(text)
        try:
            for name, array in _arrays_in(path):
                state[f"{path.name}:{name}" if name else path.name] = array
        except (OSError, ValueError, EOFError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise OptionError(name="PATH", value=text, allowed=f"a file that can be read: {why}") from error
    if not state:
        raise OptionError(name="PATH", value=", ".join(paths), allowed="files with at least one array in them")
    return state


def _arrays_in(path: Path) -> Iterator[tuple[str, Array]]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                yield name, archive[name]
    elif path.suffix == ".npy":
        yield "", np.load(path, allow_pickle=False, mmap_mode="r")
    elif path.suffix == ".safetensors":
        yield from _safetensors_in(path)
    elif path.stat().st_size:
        yield "", np.memmap(path, np.uint8, "r")
    else:
        yield "", np.empty(0, np.uint8)


def _safetensors_in(path: Path) -> Iterator[tuple[str, Array]]:
    """Its tensors, mapped; those of an element type that is not known here as bytes."""
    size = path.stat().st_size
    mapped = np.memmap(path, np.uint8, "r") if size else np.empty(0, np.uint8)
    try:
        members, _ = read_header(lambda offset, length: mapped[offset:offset + length].tobytes(), size, path.name)
    except CannotPack as error:
        raise ValueError(str(error)) from error
    for each in members:
        raw = mapped[each.offset:each.offset + each.length]
        yield each.name, raw if each.dtype not in DTYPES else restore(each.dtype, each.shape, flatten(raw), copy=not raw.size)


def digest(array: Array) -> str:
    """BLAKE3 of dtype, shape and bytes."""
    hasher = blake3(f"{array.dtype.str} {array.shape}".encode())
    hasher.update(flatten(array))
    return hasher.hexdigest()


def digests(state: Mapping[str, Array]) -> dict[str, str]:
    """One digest per array."""
    return {name: digest(array) for name, array in state.items()}


def first_changeable(state: Mapping[str, Array]) -> str:
    """The array that a leaf changes: the first that is not empty; or the first."""
    return next((name for name, array in state.items() if array.size), next(iter(state)))


def change(array: Array) -> None:
    """A leaf's training: one bit."""
    if array.size:
        flatten(array)[0] ^= 1


def changed(array: Array) -> Array:
    """The same change in a copy."""
    copy = np.array(array, order="C", copy=True)
    change(copy)
    return copy


def bytes_of(state: Mapping[str, Array]) -> int:
    """All bytes of all arrays."""
    return sum(array.nbytes for array in state.values())
