"""The cells of the demo, as ``zdl start --load`` takes them: what server, relays and leaves do.

::

    console ── run ─▶ server ── train ─▶ relay-1 ── train ─▶ … ── train ─▶ leaves
                                 body: refs, unopened          │ resolve: bytes come straight from the server
    console ◀ report ─ server ◀───── answers: refs, unopened ◀─┘ change one array, answer by reference
                         │ resolve: bytes come straight from the leaf
"""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from zdl.assembly import Cell, process_facts
from zdl.cell.messages import Request
from zdl.cli import demo_state
from zdl.errors import Closed, PeerLost
from zdl.objects.arrays import flatten

CHANNEL = "demo"
CONSOLE = "console"
# How often a leaf tells the console how far it is.
TELL_S = 0.1
RAW_PIECE = 256 * 1024
GIB = 1 << 30


def relay(cell: Cell) -> None:
    """A forwarder: takes the body with its refs unresolved, adds its name, and sends it on."""
    measured(cell)

    @cell.handler(CHANNEL, "train", resolve=False)
    def forward(request: Request) -> object:
        """Unopened, to those below; their answers go up the same way."""
        body = _plan(request)
        body["path"].append(cell.fqcn)
        targets, rest = body["below"][0], body["below"][1:]
        answers = cell.broadcast(targets, CHANNEL, "train", {**body, "below": rest}, timeout_s=None, resolve=False,
                                 abort=request.abort)
        merged: dict[str, Any] = {}
        for answer in answers.values():
            merged.update(answer.body)  # type: ignore[call-overload]
        return merged


def leaf(cell: Cell) -> None:
    """Pulls what the refs stand for, checks it, changes one array, and answers with the result."""
    measured(cell)

    @cell.handler(CHANNEL, "train", resolve=False)
    def train(request: Request) -> object:
        """Straight from the origin; the answer by reference."""
        body = _plan(request)
        began = time.perf_counter()
        state = cell.downloads.resolve(body["state"], abort=request.abort, progress=_Teller(cell).tell)
        seconds = time.perf_counter() - began
        assert isinstance(state, dict)
        wrong = [name for name, told in body["digests"].items() if demo_state.digest(state[name]) != told]
        demo_state.change(state[body["change"]])
        transfers = cell.downloads.transfers
        facts = {"path": [*body["path"], cell.fqcn], "wrong": wrong, "seconds": seconds, "hops": request.hops,
                 "bytes": demo_state.bytes_of(state), "way": transfers[-1].way if transfers else "in the message",
                 "why": transfers[-1].why if transfers else "",
                 "why_not_shared": transfers[-1].why_not_shared if transfers else ""}
        return {cell.fqcn: {"facts": facts, "result": _by_reference(cell, state, ["server"])}}

    @cell.handler(CHANNEL, "raw")
    def raw_copy(request: Request) -> object:
        """The baseline, received."""
        return {"seconds": _receive_raw(request.body["port"], request.body["size"])}  # type: ignore[index]


def server(cell: Cell) -> None:
    """Owns the state dict, sends it on its way, and pulls the results."""
    measured(cell)
    state: demo_state.State = {}

    @cell.handler(CHANNEL, "prepare")
    def prepare(request: Request) -> object:
        """Make or load the state."""
        asked: Any = request.body
        state.update(demo_state.load(asked["paths"]) if asked["paths"] else demo_state.make(asked["size"]))
        return {"bytes": demo_state.bytes_of(state), "arrays": len(state)}

    @cell.handler(CHANNEL, "run")
    def run(request: Request) -> object:
        """The main job; what came of it, leaf by leaf."""
        asked: Any = request.body
        name = demo_state.first_changeable(state)
        first, rest = asked["below"][0], asked["below"][1:]
        body = {"state": _by_reference(cell, state, asked["leaves"]), "digests": demo_state.digests(state),
                "change": name, "path": [cell.fqcn], "below": rest, "lr": 0.1, "note": "ordinary values travel in the message"}
        answers = cell.broadcast(first, CHANNEL, "train", body, timeout_s=None, resolve=False, abort=request.abort)
        expected = demo_state.digest(demo_state.changed(state[name]))
        reports = {}
        for answer in answers.values():
            for fqcn, told in dict(answer.body).items():  # type: ignore[call-overload]
                reports[fqcn] = {**told["facts"], **_take_back(cell, told["result"], state, name, expected)}
        return reports

    @cell.handler(CHANNEL, "raw")
    def raw_copy(request: Request) -> object:
        """The baseline: the same bytes to all leaves at once over plain TCP."""
        asked: Any = request.body
        size = demo_state.bytes_of(state)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            sender = threading.Thread(target=_send_raw, args=(listener, len(asked["leaves"]), state), daemon=True)
            sender.start()
            answers = cell.broadcast(asked["leaves"], CHANNEL, "raw", {"port": listener.getsockname()[1], "size": size},
                                     timeout_s=None, abort=request.abort)
            sender.join()
        return {fqcn: answer.body for fqcn, answer in answers.items()}


def measured(cell: Cell) -> None:
    """Every process of the demo tells what it has used since it was asked to begin."""
    start = _Mark()

    @cell.handler(CHANNEL, "begin")
    def begin(request: Request) -> object:
        start.set(cell)
        return None

    @cell.handler(CHANNEL, "used")
    def used(request: Request) -> object:
        return start.used(cell)


@dataclass(slots=True)
class _Mark:
    """Where a process stood when it was asked to begin."""

    cpu_s: float = 0.0
    rss_bytes: int = 0

    def set(self, cell: Cell) -> None:
        """Begin: the peak of memory is measured from now on."""
        with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
            reset.write("5")
        facts = process_facts()
        self.cpu_s, self.rss_bytes = facts.cpu_s, facts.rss_bytes

    def used(self, cell: Cell) -> dict[str, object]:
        """What has been used since, and what has moved over each link at all."""
        facts, snapshot = process_facts(), cell.snapshot()
        links: dict[str, dict[str, int]] = {}
        for each in snapshot.traffic:
            at = links.setdefault(each.fqcn, {"control_in": 0, "control_out": 0, "data_in": 0, "data_out": 0})
            at[f"{each.lane}_in"] += each.bytes_in
            at[f"{each.lane}_out"] += each.bytes_out
        return {"cpu_s": facts.cpu_s - self.cpu_s, "rss_growth_bytes": max(0, facts.rss_peak_bytes - self.rss_bytes),
                "links": links}


class _Teller:
    """Tells the console how far a pull is, now and then."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._told_at = 0.0

    def tell(self, done: int, total: int) -> None:
        """From the data lane: hand over, at most every `TELL_S`."""
        now = time.monotonic()
        if done < total and now < self._told_at + TELL_S:
            return
        self._told_at = now
        try:
            self._cell.notice(CONSOLE, CHANNEL, "progress", {"leaf": self._cell.fqcn, "done": done, "total": total})
        except Closed:
            return  # the demo is over


def _by_reference(cell: Cell, state: demo_state.State, receivers: list[str]) -> object:
    """The state with a ref in the place of every array, however small: in a message a relay would hold its bytes."""
    if all(array.nbytes <= 1 for array in state.values()):
        return state  # nothing to refer to
    return cell.downloads.lend(state, receivers=receivers).body


def _plan(request: Request) -> dict[str, Any]:
    assert isinstance(request.body, dict)
    return request.body


def _take_back(cell: Cell, result: object, state: demo_state.State, name: str, expected: str) -> dict[str, object]:
    """Pull a leaf's result, and compare: one array is changed as agreed, all others are as they were."""
    began = time.perf_counter()
    pulled = cell.downloads.resolve(result)
    seconds = time.perf_counter() - began
    assert isinstance(pulled, dict)
    same = all(np.array_equal(_bits(pulled[each]), _bits(array)) for each, array in state.items() if each != name)
    return {"returned": same and demo_state.digest(pulled[name]) == expected, "return_seconds": seconds}


def _bits(array: demo_state.Array) -> np.ndarray[Any, Any]:
    """Compared as bytes: a NaN is itself."""
    return np.frombuffer(flatten(array), np.uint8)


def _send_raw(listener: socket.socket, count: int, state: demo_state.State) -> None:
    """The baseline: the same bytes to so many leaves at once, over plain TCP."""
    def send(connection: socket.socket) -> None:
        with connection:
            for array in state.values():
                flat = flatten(array)
                for at in range(0, len(flat), RAW_PIECE):
                    connection.sendall(flat[at:at + RAW_PIECE])

    threads = []
    for _ in range(count):
        try:
            connection, _ = listener.accept()
        except OSError:
            return  # the run was given up
        threads.append(threading.Thread(target=send, args=(connection,), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join()


def _receive_raw(port: int, size: int) -> float:
    """Seconds for `size` bytes into fresh memory."""
    began = time.perf_counter()
    into = flatten(np.empty(size, np.uint8))
    at = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while at < size:
            got = connection.recv_into(into[at:at + RAW_PIECE])
            if not got:
                raise PeerLost(target="server", lost="server", at="leaf", why="the raw copy ended early")
            at += got
    return time.perf_counter() - began
