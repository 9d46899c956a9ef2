"""A single item of any size travels: across 2 GiB and 4 GiB, where an int of 31 or 32 bits would end.

In every run, the bytes on both sides of each edge are pulled out of one item that is longer: an array of zeros that no memory
stands behind, and a file with holes. All of it, as an array, as bytes made piece by piece and as a file:
``ZDL_SYSTEM=1 python -m pytest -m system tests/download/test_beyond_4gib.py``, which takes a minute and a half, 10 GiB of
memory and 5 GiB of disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zdl.assembly import Cell
from zdl.download.cacheable import CacheableObject
from zdl.options import OfferOptions, Options
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from trees import Trees
from waiting import PATIENCE_S

KIB, GIB = 1 << 10, 1 << 30
EDGES = (2 * GIB, 4 * GIB)
SIZE = 4 * GIB + 64 * KIB + 7
# What is looked at on each side of an edge, and at the very end.
NEAR = 64 * KIB
needs_long = pytest.mark.skipif("ZDL_SYSTEM" not in os.environ, reason="it takes a minute and a half, and 10 GiB: ZDL_SYSTEM=1")


@pytest.fixture
def pair(trees: Trees) -> tuple[Cell, Cell]:
    """Over sockets: memory that is shared has no edges."""
    server, site = trees.grow("server", "site-1", options=Options(offers=OfferOptions(same_host=False)))
    return server, site


def marked(at: int, length: int) -> bytes:
    """What stands in these bytes of the item: zeros, and around each edge, and at the end, the places themselves."""
    block = np.zeros(length, np.uint8)
    for edge in (*EDGES, SIZE):
        low, high = max(at, edge - NEAR), min(at + length, edge + NEAR, SIZE)
        if low < high:
            block[low - at:high - at] = np.arange(low, high, dtype=np.uint64) * 2654435761 >> 8 & 0xff
    return block.tobytes()


def giant() -> NDArray[np.uint8]:
    """One item across all edges; only what is marked takes memory."""
    array = np.zeros(SIZE, np.uint8)
    for edge in (*EDGES, SIZE):
        low, high = edge - NEAR, min(edge + NEAR, SIZE)
        array[low:high] = np.frombuffer(marked(low, high - low), np.uint8)
    return array


def giant_file(folder: Path) -> Path:
    """The same as a file with holes."""
    path = folder / "giant.bin"
    with path.open("wb") as file:
        for edge in (*EDGES, SIZE):
            low, high = edge - NEAR, min(edge + NEAR, SIZE)
            file.seek(low)
            file.write(marked(low, high - low))
    assert path.stat().st_size == SIZE
    return path


def assert_edges(ref: Ref, site: Cell) -> None:
    """The parts across each edge, and the end, are what they should be."""
    assert ref.length == SIZE
    for edge in (*EDGES, SIZE):
        low, high = edge - NEAR, min(edge + NEAR, SIZE)
        part = site.downloads.pull(ref[low:high])
        assert bytes(part) == marked(low, high - low), f"the bytes around {edge} are others"  # type: ignore[call-overload]


def assert_whole(view: memoryview) -> None:
    """All of it, block by block: the comparison takes no memory of its own."""
    assert len(view) == SIZE
    step = 64 << 20
    for at in range(0, SIZE, step):
        length = min(step, SIZE - at)
        assert view[at:at + length] == marked(at, length), f"something between {at} and {at + length} is another"


@pytest.mark.row("O1")
def test_parts_across_2_and_4_gib_of_one_array_are_pulled(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    lent = server.downloads.lend(giant(), receivers=0)
    assert isinstance(lent.body, Ref)
    assert_edges(lent.body, site)
    lent.delete()


@pytest.mark.row("O1")
def test_parts_across_2_and_4_gib_of_one_file_are_pulled(pair: tuple[Cell, Cell], tmp_path: Path) -> None:
    server, site = pair
    lent = server.downloads.lend_file(giant_file(tmp_path), receivers=0)
    assert isinstance(lent.body, Ref)
    assert_edges(lent.body, site)
    lent.delete()


class Giant(CacheableObject):
    """One item."""

    def get_item_count(self) -> int:
        return 1

    def produce_item(self, index: int) -> Any:
        return self.base_obj


@pytest.mark.system
@needs_long
def test_one_array_of_more_than_4_gib_travels_whole(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    lent = server.downloads.lend(giant(), receivers=["site-1"])
    back = site.downloads.pull(lent.body)
    assert isinstance(back, np.ndarray)
    assert_whole(memoryview(back))
    outcome = lent.wait(PATIENCE_S)
    assert outcome.outcome is Outcome.FINISHED and outcome.bytes == SIZE


@pytest.mark.system
@needs_long
def test_one_produced_item_of_more_than_4_gib_travels_whole(pair: tuple[Cell, Cell]) -> None:
    server, site = pair
    lent = server.downloads.lend(Giant(giant(), 64 * KIB), receivers=["site-1"])
    pieces = site.downloads.pull(lent.body)
    assert isinstance(pieces, list) and len(pieces) == 1
    (back,) = pieces[0]
    assert_whole(memoryview(back))
    assert lent.wait(PATIENCE_S).outcome is Outcome.FINISHED


@pytest.mark.system
@needs_long
def test_one_file_of_more_than_4_gib_travels_whole(pair: tuple[Cell, Cell], tmp_path: Path) -> None:
    server, site = pair
    lent = server.downloads.lend_file(giant_file(tmp_path), receivers=["site-1"])
    assert isinstance(lent.body, Ref)
    place = site.downloads.pull_file(lent.body, tmp_path / "back.bin")
    back = np.memmap(place, np.uint8, "r")
    assert_whole(memoryview(back))
    assert lent.wait(PATIENCE_S).outcome is Outcome.FINISHED
