"""The desk of streams: over real sockets, along the tree and directly, and every end."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from sides import Side

from zdl.errors import Cancelled, Closed, Refused, ZdlError
from zdl.protocol.backlog import Backlog
from zdl.protocol.effects import PushMoved
from zdl.protocol.messages import Body
from zdl.protocol.pushes import Opening
from zdl.protocol.pushing import Open
from zdl.protocol.redial import SAID_GOODBYE
from zdl.transport.streams import StreamDesk

from waiting import eventually


@dataclass
class Taking:
    """A receiver that takes what comes."""

    desk: StreamDesk
    message: Open
    idle_timeout_s: float | None = None
    items: list[Body] = field(default_factory=list)
    errors: list[ZdlError] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, int]:
        return self.message.origin, self.message.id

    def arrived(self, items: list[Body]) -> None:
        self.items += items
        self.desk.took(self.key, [(b"ok",)] * len(items))

    def complete(self) -> None:
        self.desk.end(self.key, None, (b"all",))

    def settled(self, error: ZdlError) -> None:
        self.errors.append(error)


class Sending:
    """A sender that notes what it is told."""

    def __init__(self, side: Side, target: str) -> None:
        self.desk = side.lanes.streams
        self.moved: list[PushMoved] = []
        self.ends: list[tuple[ZdlError | None, Body]] = []
        self.backlog = Backlog()
        self.number = self.desk.open(Opening(target, "a", "b", "bytes"), self.backlog, moved=self.moved.append,
                                     settled=lambda *end: self.ends.append(end))

    def put(self, *items: bytes) -> None:
        self.desk.push(self.backlog, lambda: [((each,), None) for each in items])

    def finish(self) -> None:
        self.desk.push(self.backlog, lambda: [], last_of=self.number)

    @property
    def end(self) -> ZdlError | None:
        return eventually(lambda: self.ends)[0][0]


@pytest.fixture
def sides() -> object:
    with ExitStack() as stack:
        server = Side(stack, "server")
        yield server, Side(stack, "site-1", server), Side(stack, "site-2", server)


Sides = tuple[Side, Side, Side]


def listening(side: Side) -> list[Taking]:
    """What is taken in there."""
    taken: list[Taking] = []

    def opened(message: Open) -> Taking:
        taken.append(Taking(side.lanes.streams, message))
        return taken[-1]

    side.lanes.streams.listen(opened)
    return taken


def test_items_go_along_the_tree_and_come_in_order(sides: Sides) -> None:
    _, one, two = sides
    taken = listening(two)
    sending = Sending(one, "site-2")
    for number in range(50):
        sending.put(b"%d" % number, b"x" * 100_000)
    sending.finish()
    assert sending.end is None and sending.ends[0][1] == (b"all",)
    assert [bytes(part) for item in taken[0].items for part in item][::2] == [b"%d" % number for number in range(50)]
    assert [reply for moved in sending.moved for reply in moved.replies] == [(b"ok",)] * 100


def test_a_direct_way_is_looked_for_and_used(sides: Sides) -> None:
    _, one, two = sides
    taken = listening(two)
    chosen = threading.Event()
    assert not one.lanes.streams.is_direct("site-2") and one.lanes.streams.is_direct("site-1")
    one.lanes.streams.way("site-2", two.lanes.data_addresses, chosen.set)
    assert chosen.wait(10.0) and one.lanes.streams.is_direct("site-2")
    sending = Sending(one, "site-2")
    sending.put(b"direct")
    sending.finish()
    assert sending.end is None and taken[0].items == [(b"direct",)]
    chosen.clear()
    one.lanes.streams.way("site-1.none", (), chosen.set)
    assert chosen.wait(10.0)
    chosen.clear()
    one.lanes.streams.way("site-9", ("tcp://127.0.0.1:1",), chosen.set)
    assert chosen.wait(10.0), "nobody answers there: along the tree then"


def test_a_direct_link_that_breaks_is_made_up_for_by_the_tree(sides: Sides) -> None:
    _, one, two = sides
    taken = listening(two)
    chosen = threading.Event()
    one.lanes.streams.way("site-2", two.lanes.data_addresses, chosen.set)
    assert chosen.wait(10.0)
    sending = Sending(one, "site-2")
    sending.put(b"first")
    eventually(lambda: taken and taken[0].items)
    one.lanes.lane.peer_is_gone("site-2", "cut")
    sending.put(b"second")
    sending.finish()
    assert sending.end is None and taken[0].items == [(b"first",), (b"second",)]


def test_the_data_link_of_a_peer_that_said_goodbye_is_heard_to_its_end_and_then_ended(sides: Sides) -> None:
    server, one, _ = sides
    taken = listening(server)
    sending = Sending(one, "server")
    server.lanes.lane.peer_is_gone("site-1", f"{SAID_GOODBYE}: closed")
    assert server.lanes.streams.is_direct("site-1"), "what it has said over it may be on its way"
    sending.put(b"a last word")
    eventually(lambda: taken and taken[0].items == [(b"a last word",)])
    eventually(lambda: not server.lanes.streams.is_direct("site-1"), what="its end, though it never said goodbye here")
    sending.desk.cancel(sending.number, Cancelled(what="it"))


def test_who_takes_no_streams_says_so(sides: Sides) -> None:
    _, one, two = sides
    assert isinstance(Sending(one, "site-2").end, Refused)

    def refuse(message: Open) -> Taking:
        raise Refused(by="site-2", reason="not-allowed", text="not today")

    two.lanes.streams.listen(refuse)
    error = Sending(one, "site-2").end
    assert isinstance(error, Refused) and error.reason == "not-allowed"


def test_to_cancel_or_to_close_ends_it_at_both_ends(sides: Sides) -> None:
    _, one, two = sides
    taken = listening(two)
    cancelled, closed = Sending(one, "site-2"), Sending(one, "site-2")
    eventually(lambda: len(taken) == 2)
    cancelled.desk.cancel(cancelled.number, Cancelled(what="it", why="enough"))
    eventually(lambda: taken[0].errors or taken[1].errors)
    two.lanes.streams.close()
    assert isinstance(closed.end, Closed) and isinstance(cancelled.end, Cancelled)
    assert sorted(type(each.errors[0]).__name__ for each in taken) == ["Cancelled", "Closed"]
    assert isinstance(Sending(one, "site-2").end, Refused), "after that it takes nothing in"
