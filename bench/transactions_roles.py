"""The roles of `zdl_bench.transactions`: an origin that lends ten thousand things, and cells that begin to pull them all."""

from __future__ import annotations

import gc
import threading
import time
from statistics import median
from typing import Any

import numpy as np

from zdl.assembly import Cell, process_facts
from zdl.cell.messages import Request
from zdl.download.transaction import Transaction
from zdl.options import OfferOptions, Options
from zdl_bench.role import CellRole

SERVER, CHANNEL = "server", "bench"
TIMEOUT_S = 100.0
# Beside those that are counted there are those whose leases end.
TRANSACTIONS_MAX = 100_000
# Refs in one message, pulled together.
BATCH = 500
# What is lent: more than what is pulled of it, so that nothing ends.
ITEMS = 8
# Opened and ended before anything is measured: what the first ones allocate is no cost of those after them.
WARM_UPS = 200
# The first lease ends so long after the last of them was opened.
AHEAD_S = 0.1
# Between the ends of two leases that end one after the other.
STEP_S = 0.002


class Origin(CellRole):
    """A cell that lends."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[Transaction] = []
        self._waiting: threading.Thread | None = None
        self._told_at: dict[int, float] = {}
        self._waited_at: list[float] = []

    def start(self) -> dict[str, Any]:
        """Listens; returns where."""
        options = Options(offers=OfferOptions(transactions_max=TRANSACTIONS_MAX))
        self._cell = self._open.enter_context(Cell(SERVER, listen="tcp://127.0.0.1:0", options=options))
        self._cell.handler(CHANNEL, "nothing")(lambda request: None)
        self._cell.handler(CHANNEL, "refs", resolve=False)(self._refs)
        self._cell.handler(CHANNEL, "lend", resolve=False)(self._lend)
        self._cell.handler(CHANNEL, "ended")(self._ended)
        return {"address": self._cell.addresses[0]}

    def warm_up(self) -> None:
        """Opens and ends some."""
        for _ in range(WARM_UPS):
            lent = self._cell.downloads.lend(np.zeros(ITEMS), receivers=[SERVER])
            lent.delete()
            lent.wait(TIMEOUT_S)

    def open(self, *, count: int, receivers: list[str]) -> dict[str, Any]:
        """Lends an array of its own for each."""
        arrays = [np.zeros(ITEMS) for _ in range(count)]
        gc.collect()
        before, began = process_facts().rss_bytes, time.monotonic()
        self._kept = [self._cell.downloads.lend(each, receivers=receivers) for each in arrays]
        return {"seconds": time.monotonic() - began, "rss_bytes": process_facts().rss_bytes - before}

    def memory(self) -> dict[str, Any]:
        """Of the process, and how many receivers have begun."""
        gc.collect()
        return {"rss_bytes": process_facts().rss_bytes, "receivers": sum(len(each.begun) for each in self._kept)}

    def idle(self, *, seconds: float) -> dict[str, Any]:
        """What the process uses while nobody wants anything."""
        gc.collect()
        began = time.process_time()
        time.sleep(seconds)
        return {"cpu_s": time.process_time() - began}

    def expire(self, *, count: int) -> dict[str, Any]:
        """How late leases end, at most: one after the other, and all at one moment."""
        return {"one_by_one_s": self._late(count, STEP_S), "all_at_once_s": self._late(count, 0.0)}

    def _late(self, count: int, step_s: float) -> float:
        late: list[float] = []
        lent: list[Transaction] = []
        first = time.monotonic() + AHEAD_S + count * 1e-3  # a millisecond is enough to open one
        for number in range(count):
            ends_at = first + number * step_s
            lease_s = ends_at - time.monotonic()
            each = self._cell.downloads.lend(np.zeros(ITEMS), receivers=[SERVER], lease_s=lease_s)
            each.when_done(lambda ends_at=ends_at: late.append(time.monotonic() - ends_at))  # type: ignore[misc]
            lent.append(each)
        for each in lent:
            each.wait(TIMEOUT_S)
        assert len(late) == count
        return max(late)

    # --- asked by the leaves --------------------------------------------------------------------

    def _refs(self, request: Request) -> object:
        begin = int(request.body)  # type: ignore[call-overload]
        return [each.body for each in self._kept[begin:begin + BATCH]]

    def _lend(self, request: Request) -> object:
        """So many things for who asks."""
        count = int(request.body)  # type: ignore[call-overload]
        self._told_at, self._waited_at = {}, []
        lent = [self._cell.downloads.lend(np.zeros(ITEMS), receivers=[request.origin]) for _ in range(count)]
        for number, each in enumerate(lent):
            each.when_done(lambda number=number: self._told_at.setdefault(number, time.monotonic()))  # type: ignore[misc]
        self._waiting = threading.Thread(target=self._wait, args=(lent,), daemon=True)
        self._waiting.start()
        return [each.body for each in lent]

    def _wait(self, lent: list[Transaction]) -> None:
        for each in lent:
            each.wait(TIMEOUT_S)
            self._waited_at.append(time.monotonic())

    def _ended(self, request: Request) -> object:
        """When the end of each was known, on the clock that all processes of a machine share."""
        assert self._waiting is not None
        self._waiting.join(TIMEOUT_S)
        return {"told": [self._told_at[number] for number in range(len(self._told_at))], "waited": self._waited_at}


class Leaves(CellRole):
    """Several cells that pull."""

    def __init__(self) -> None:
        super().__init__()
        self._cells: list[Cell] = []

    def start(self, *, address: str, count: int) -> dict[str, Any]:
        """Connects; returns their names."""
        self._cells = [self._open.enter_context(Cell(f"leaf-{number}", parent=address)) for number in range(count)]
        for each in self._cells:
            each.wait_ready(TIMEOUT_S)
        return {"names": [each.fqcn for each in self._cells]}

    def begin_all(self, *, count: int) -> dict[str, Any]:
        """Each cell pulls a part of each thing, and not all of it."""
        began = time.monotonic()
        for cell in self._cells:
            for begin in range(0, count, BATCH):
                refs = cell.request(SERVER, CHANNEL, "refs", begin, timeout_s=TIMEOUT_S, resolve=False).body
                assert isinstance(refs, list)
                cell.downloads.resolve([each[:1] for each in refs], TIMEOUT_S)
        return {"seconds": time.monotonic() - began}

    def times(self, *, count: int, pause_s: float) -> dict[str, Any]:
        """Medians of a request and its reply, of a pull's first byte, and of the end that follows it, in microseconds.

        Args:
            count: of each.
            pause_s: before each; 0: one right after the other, as in all other benchmarks.
        """
        cell = self._cells[0]
        cold_us = self._pulled(cell, 1, 0.0)["first_byte_us"]
        self._requested(cell, WARM_UPS, 0.0)
        return {**self._requested(cell, count, pause_s), **self._pulled(cell, count, pause_s), "cold_us": cold_us}

    def _requested(self, cell: Cell, count: int, pause_s: float) -> dict[str, float]:
        seconds = []
        for _ in range(count):
            time.sleep(pause_s)
            began = time.monotonic()
            cell.request(SERVER, CHANNEL, "nothing")
            seconds.append(time.monotonic() - began)
        return {"request_us": median(seconds) * 1e6}

    def _pulled(self, cell: Cell, count: int, pause_s: float) -> dict[str, float]:
        refs = cell.request(SERVER, CHANNEL, "lend", count, timeout_s=TIMEOUT_S, resolve=False).body
        assert isinstance(refs, list)
        first_byte, landed = [], []
        for ref in refs:
            at: list[float] = []
            time.sleep(pause_s)
            began = time.monotonic()
            # On the lane: the bytes are in place; the next that it does is to confirm them.
            cell.downloads.pull(ref, progress=lambda done, total: at.append(time.monotonic()))  # noqa: B023
            first_byte.append(at[0] - began)
            landed.append(at[-1])
        ended = cell.request(SERVER, CHANNEL, "ended", timeout_s=TIMEOUT_S).body
        assert isinstance(ended, dict)
        found = {"first_byte": first_byte, **{name: [then - at for then, at in zip(ended[name], landed)] for name in ended}}
        return {f"{name}_us": median(seconds) * 1e6 for name, seconds in found.items()}
