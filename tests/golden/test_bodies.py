"""Golden: the bytes of one body per kind of leaf. Peers of this version are in use: these bytes may not change."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from zdl.download.dumping import dumps, loads
from zdl.objects.pack import pack
from zdl.objects.typetable import TypeTable
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Ref, Source

FILE = Path(__file__).with_name("bodies.txt")
OPTIONS = PackOptions(inline_bytes_max=16)
CHANGED = "the wire changed, so WIRE_VERSION must (and then ZDL_REWRITE=1 writes the new bytes down)"


@dataclass(frozen=True)
class Point:
    x: int


TYPES = TypeTable().with_types(Point)
SOURCE = Source("site-1", bytes(range(16)), bytes(range(16, 32)), 1 << 20)
BODIES: dict[str, Any] = {
    "PLAIN": {"a": [1, -2.5, None, True, "é", b"b"], 7: {}}, "TUPLE": (1, (2,)), "BIGINT": 1 << 70, "SCALAR": np.float32(0.5),
    "SCALAR_TIME": np.datetime64("2026-03-01", "us"), "INLINE": np.arange(4, dtype="<i2"), "BESIDE": np.arange(9, dtype=">f4"),
    "BESIDE_BYTES": b"a leaf of bytes that is large", "REF": Ref(SOURCE, 3, 64, 24, "array", "<f4", (2, 3)),
    "REF_COLUMNS": Ref(SOURCE, 3, 64, 24, "array", "<f4", (2, 3))[::-1, ::2],
    "STRUCT": np.zeros(1, [("a b", "<i4", (2,)), ("at", "<M8[s]"), ("in", [("s", "S2"), ("u", "<U1")])]),
    "COMPLEX": 1 + 2j, "DATETIME": datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=1))), "DATE": date(2026, 3, 1),
    "TIME": time(1, 2, 3, 4, fold=1), "TIMEDELTA": timedelta(-1, 2, 3), "DECIMAL": Decimal("1.50"), "UUID": UUID(int=7),
    "PATH": PurePath("a/b"), "RANGE": range(1, 9, 2), "SET": {1}, "FROZENSET": frozenset(("a",)), "DEQUE": deque([1], 2),
    "VALUE": [Point(1), Point(2)],
}


def packed(name: str) -> str:
    """The parts of one body, in hex."""
    return "|".join(bytes(part).hex() for part in pack(BODIES[name], options=OPTIONS, types=TYPES).parts)


def golden() -> dict[str, str]:
    """The parts as they were written down, by the name of the body."""
    return dict(line.split() for line in FILE.read_text(encoding="utf-8").splitlines())


def test_the_bodies_are_those_that_were_written_down() -> None:
    if os.environ.get("ZDL_REWRITE"):
        lines = [*(f"{name} {packed(name)}" for name in BODIES), f"DUMP {dumps(BODIES['PLAIN']).hex()}"]
        FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert set(golden()) == {*BODIES, "DUMP"}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_is_what_it_was(name: str) -> None:
    assert packed(name) == golden()[name], CHANGED
    found = unpack([bytes.fromhex(part) for part in golden()[name].split("|")], options=OPTIONS, types=TYPES)
    assert np.array_equal(found, BODIES[name]) if isinstance(found, np.ndarray) else found == BODIES[name], CHANGED


def test_a_dump_is_what_it_was() -> None:
    assert dumps(BODIES["PLAIN"]).hex() == golden()["DUMP"], "the format of dumps changed, so its version must"
    assert loads(bytes.fromhex(golden()["DUMP"])) == BODIES["PLAIN"]
