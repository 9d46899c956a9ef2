"""The roles of `zdl_bench.items`: an origin that lends items or arrays, a leaf that pulls all of them and keeps them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from zdl.assembly import Cell
from zdl.download.cacheable import CacheableObject
from zdl.download.consumer import ItemConsumer
from zdl.download.transaction import Transaction
from zdl.refs import Ref
from zdl_bench.meter import Meter
from zdl_bench.role import SENT, CellRole

NAME = "items"
# Items travel together up to here; the ancestor's size for arrays and tensors.
MAX_CHUNK_SIZE = 2 << 20
TIMEOUT_S = 100.0


class Items(CacheableObject):
    """Items of one size; item number 5 is full of fives. To produce one is a copy, as cheap as can be."""

    def __init__(self, sources: list[bytes], count: int, *, as_arrays: bool, cache_bytes: int) -> None:
        super().__init__(sources, MAX_CHUNK_SIZE, cache_bytes_max=cache_bytes)
        self._as_arrays = as_arrays
        self._items = count
        self.produced = 0
        self.kept_bytes = 0

    def get_item_count(self) -> int:
        """How many."""
        return self._items

    def get_item_size(self, index: int) -> int:
        """All of one size."""
        return len(self.base_obj[0])

    def produce_item(self, index: int) -> Any:
        """A copy."""
        self.produced += 1
        self.kept_bytes = max(self.kept_bytes, self.cached_bytes)
        source = self.base_obj[index % len(self.base_obj)]
        return np.frombuffer(source, np.uint8).copy() if self._as_arrays else bytes(memoryview(source))


class Kept(ItemConsumer):
    """Keeps all items, as who wants the object does."""

    def consume_items(self, items: list[Any], result: Any) -> Any:
        """Some more."""
        kept: list[Any] = [] if result is None else result
        kept.extend(items)
        return kept


class Origin(CellRole):
    """A cell that lends to all leaves."""

    def __init__(self) -> None:
        super().__init__()
        self._cell: Cell | None = None
        self._lent: Transaction | None = None
        self._items: Items | None = None
        self._meter = Meter()

    def start(self, *, kind: str, items: int, item_bytes: int, leaves: int, cache_bytes: int) -> dict[str, Any]:
        """Listens; returns where."""
        self._kind, self._count, self._leaves, self._cache_bytes = kind, items, leaves, cache_bytes
        self._sources = [bytes([number]) * item_bytes for number in range(min(items, 8))]
        self._arrays = {str(number): np.frombuffer(self._sources[number % len(self._sources)], np.uint8).copy()
                        for number in range(items)} if kind == "arrays" else {}
        self._cell = self._open.enter_context(Cell("server", listen="tcp://127.0.0.1:0"))
        return {"address": self._cell.addresses[0]}

    def lend(self) -> None:
        """Once for all leaves."""
        assert self._cell is not None
        if self._kind == "arrays":
            self._lent = self._cell.downloads.lend(self._arrays, receivers=self._leaves)
        else:
            self._items = Items(self._sources, self._count, as_arrays=self._kind == "items_arrays",
                                cache_bytes=self._cache_bytes)
            self._lent = self._cell.downloads.lend(self._items, receivers=self._leaves)
        self._cell.downloads.publish(NAME, self._lent.body)
        self._meter.start()

    def ended(self) -> dict[str, Any]:
        """What it took, when all have it."""
        assert self._lent is not None
        outcome = self._lent.wait(TIMEOUT_S)
        if not outcome.is_complete:
            raise ValueError(f"it ended as {outcome}")
        items = self._items
        return {"cpu_s": self._meter.read()["cpu_s"], "produced": items.produced if items else 0,
                "kept_bytes": items.kept_bytes if items else 0}


class Leaf(CellRole):
    """A cell that pulls all of it."""

    def __init__(self) -> None:
        super().__init__()
        self._cell: Cell | None = None

    def start(self, *, address: str, name: str) -> None:
        """Connects."""
        self._cell = self._open.enter_context(Cell(name, parent=address, options=SENT))
        self._cell.wait_ready(TIMEOUT_S)

    def pull(self) -> dict[str, Any]:
        """Once: when it began and ended, on the clock that all processes of a machine share, and what was good."""
        assert self._cell is not None
        body = self._cell.downloads.find("server", NAME)
        meter = Meter()
        meter.start()
        began_at = time.monotonic()
        if isinstance(body, Ref):
            taken = self._cell.downloads.pull(body, consumer=Kept())
            assert isinstance(taken, Kept)
            items = taken.result
        else:
            arrays = self._cell.downloads.resolve(body)
            assert isinstance(arrays, dict)
            items = list(arrays.values())
        ended_at = time.monotonic()
        cpu_s = meter.read()["cpu_s"]
        good = sum(each[0] == each[-1] == number % 8 and len(each) == len(items[0]) for number, each in enumerate(items))
        return {"began_at": began_at, "ended_at": ended_at, "cpu_s": cpu_s, "count": len(items), "checked": good}
