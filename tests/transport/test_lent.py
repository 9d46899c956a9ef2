"""Lent: what goes out is told to who wants to know, and nothing is let go of while it is read."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from sides import Side

from zdl.errors import LeaseEnded, ZdlError
from zdl.protocol.audiences import Audience, Offer
from zdl.protocol.digests import Readable
from zdl.protocol.effects import Outcome, TransactionSettled
from zdl.protocol.messages import Ask
from zdl.refs import Source
from zdl.transport.lent import Lent

from waiting import PATIENCE_S, eventually

DATA = os.urandom(100_000)
T = b"t" * 16


class Lending(Readable):
    """A lent object that may be read only when it is allowed, and a place for it."""

    may_block = True

    def __init__(self, stack: ExitStack) -> None:
        self.side = Side(stack, "server")
        self.side.lanes.lane.use_background(stack.enter_context(ThreadPoolExecutor(2)).submit)
        self.lent: Lent = self.side.lanes.lane.lent
        self.is_read = threading.Event()
        self.may_go_on = threading.Event()
        stack.callback(self.may_go_on.set)
        self.asked: list[Ask] = []
        self.ends: list[TransactionSettled] = []
        self.pulled: list[ZdlError | None] = []
        self.place = bytearray(len(DATA))
        offer = Offer(os.urandom(16), os.urandom(16), len(DATA))
        self.source = Source("server", offer.offer_id, offer.secret, len(DATA))
        self.lent.lend(T, [(offer, self)], Audience(count=1), 60.0, on_settled=self.ends.append,
                       on_receiver=lambda effect: None, on_served=self.asked.append)

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        self.is_read.set()
        assert self.may_go_on.wait(PATIENCE_S)
        return [DATA[offset:offset + length]]

    def view(self, offset: int, length: int) -> memoryview:
        return memoryview(self.place)[offset:offset + length]

    def keep(self, offset: int, view: memoryview) -> None:
        """It is in its place."""

    def finish(self) -> None:
        """Memory needs no more."""

    def pull(self) -> None:
        self.side.lanes.lane.pull(self.source, [(0, len(DATA))], self, (), progressed=lambda done, total: None,
                                  settled=self.pulled.append, chosen=lambda is_direct, why: None)
        assert self.is_read.wait(PATIENCE_S)


@pytest.fixture
def lending() -> Iterator[Lending]:
    with ExitStack() as stack:
        yield Lending(stack)


def test_who_wants_to_know_is_told_what_goes_out(lending: Lending) -> None:
    lending.may_go_on.set()
    lending.pull()
    eventually(lambda: lending.ends)
    assert [(each.origin, each.offset, each.length) for each in lending.asked] == [("server", 0, len(DATA))]
    assert lending.pulled == [None] and lending.place == DATA and lending.lent.facts(T) is None


def test_the_end_waits_for_what_is_being_read(lending: Lending) -> None:
    lending.pull()
    lending.lent.change(lambda offers, now: offers.end(T, Outcome.DELETED, now))
    eventually(lambda: lending.pulled)
    assert isinstance(lending.pulled[0], LeaseEnded)
    assert not lending.ends and len(lending.lent.offers) == 1, "nothing is released under its reader"
    lending.may_go_on.set()
    eventually(lambda: lending.ends)
    with pytest.raises(LeaseEnded):
        lending.lent.add(T, Offer(os.urandom(16), os.urandom(16), 1), lending)
