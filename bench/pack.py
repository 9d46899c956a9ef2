"""What does it cost to turn a state dict of many leaves into a message that lends them, and back into refs?

``pack``: the dict becomes a skeleton, and a list of what is lent; no byte of an array is touched. ``unpack``: the skeleton
becomes a dict of refs. Beside zdl, in the same process and the same round: pickle's protocol 5 with its buffers kept out
of band, and bare msgpack of names, dtypes and shapes. Neither has an origin, a place in a stream or a check of what comes.
``forward``: see `zdl_bench.forward`.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

from zdl.objects.unpack import unpack
from zdl_bench import forward
from zdl_bench.lending import LENDING, State, lending, state_of
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, Sample, measure as measured

CASES = ("pack", "unpack")
CEILINGS = ("pickle5", "msgpack")
LEAVES_COUNT = 10_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to pack a state.

    Attributes:
        name: of the system.
        pack: gives the bytes of the skeleton, and whatever `unpack` needs beside them.
        unpack: looks at all leaves again.
    """

    name: str
    pack: Callable[[State], tuple[bytes, object]]
    unpack: Callable[[bytes, object], object]


def _zdl_pack(state: State) -> tuple[bytes, object]:
    return lending(state)[0], None


def _zdl_unpack(skeleton: bytes, beside: object) -> object:
    return unpack((skeleton,), options=LENDING)


def _pickle_pack(state: State) -> tuple[bytes, object]:
    buffers: list[pickle.PickleBuffer] = []
    return pickle.dumps(state, protocol=5, buffer_callback=buffers.append), buffers


def _pickle_unpack(skeleton: bytes, beside: Any) -> object:
    return pickle.loads(skeleton, buffers=beside)


def _msgpack_pack(state: State) -> tuple[bytes, object]:
    return msgpack.packb({name: (array.dtype.str, array.shape) for name, array in state.items()}), None


def _msgpack_unpack(skeleton: bytes, beside: object) -> object:
    return {name: (dtype, tuple(shape)) for name, (dtype, shape) in msgpack.unpackb(skeleton).items()}


RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (
    Recipe("zdl", _zdl_pack, _zdl_unpack),
    Recipe("pickle5", _pickle_pack, _pickle_unpack),
    Recipe("msgpack", _msgpack_pack, _msgpack_unpack),
)}


@dataclass(frozen=True, slots=True)
class PackQuestion:
    """What to measure.

    Attributes:
        leaves_count: arrays of the state.
        rounds: how often.
    """

    leaves_count: int = LEAVES_COUNT
    rounds: Rounds = Rounds()

    def __post_init__(self) -> None:
        if self.leaves_count < 1:
            raise ValueError(f"leaves_count must be at least 1, not {self.leaves_count}")


@dataclass(slots=True)
class PackSystem:
    """One way, in this process: microseconds per leaf, and the bytes of the skeleton beside the names."""

    recipe: Recipe
    leaves_count: int
    is_unpacking: bool
    _state: State = field(default_factory=dict)
    _packed: tuple[bytes, object] = (b"", None)

    @property
    def name(self) -> str:
        """Of the recipe."""
        return self.recipe.name

    def start(self) -> None:
        """Makes the state."""
        self._state = state_of(self.leaves_count)
        self._packed = self.recipe.pack(self._state)

    def run(self) -> Sample:
        """Once."""
        began = time.perf_counter()
        if self.is_unpacking:
            self.recipe.unpack(*self._packed)
        else:
            self.recipe.pack(self._state)
        elapsed_us = (time.perf_counter() - began) * 1e6
        wire = (len(self._packed[0]) - sum(map(len, self._state))) / self.leaves_count
        return Sample(elapsed_us / self.leaves_count, {"leaf_wire_bytes": wire})

    def stop(self) -> None:
        """Forgets the state."""
        self._state = {}


def measure(question: PackQuestion = PackQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all three cases.

    Raises:
        PeerFailed: a measured process failed, or other bytes came than were sent.
    """
    return here(question, told=told) + forward.measure(question.leaves_count, question.rounds, told=told)


def here(question: PackQuestion = PackQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures what is done in this process: packing and unpacking."""
    results: list[Result] = []
    for kind in CASES:
        case = Case("pack", f"{kind} {question.leaves_count} leaves", "us/leaf", "lower", CEILINGS)
        systems = [PackSystem(recipe, question.leaves_count, kind == "unpack") for recipe in RECIPES.values()]
        results.extend(measured(case, systems, question.rounds, told=told))
    return results


BENCH = Bench(PackQuestion, measure, (Flag("leaves", "leaves_count", "Arrays of the state."),))
