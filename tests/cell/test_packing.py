"""The frames of a body, what it lends, and what becomes of that with the message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from loans import Loan

from zdl.cell.futures import Sending
from zdl.cell.handlers import Job
from zdl.cell.lending import Lending
from zdl.cell.packing import Packing, Shared, conclude, lent_by
from zdl.cell.signal import Signal
from zdl.errors import Busy, Cancelled, CannotPack, NoRoute, PeerLost, RemoteError, TimedOut, ZdlError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent as Leaf
from zdl.options import Options, PackOptions
from zdl.protocol.messages import Request
from zdl.refs import Ref, Source

LARGE = 2 << 20
LOST = PeerLost(target="site-1", lost="site-1", at="server", why="gone")
NEVER_CAME: list[ZdlError] = [NoRoute(target="site-1", at="server", why="unknown"), Busy(limit="calls_max", value=1, at="server")]
MAYBE_CAME: list[ZdlError] = [
    TimedOut(what="the reply", address="site-1", waited_s=1.0), Cancelled(what="the reply", why="enough"),
    RemoteError(fqcn="site-1", channel="task", topic="run", kind="ValueError", text="no")]


class Book:
    """A lender that writes down what it is asked, and a scope that does so with its fate."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, tuple[str, ...], float | None]] = []
        self.fate: list[object] = []
        self.transaction: Loan | None = None

    def scope(self, receivers: Sequence[str] | int, *, targets: Sequence[str] = (), lease_s: float | None = None,
              packing: PackOptions = PackOptions()) -> Book:
        self.asked.append((receivers, tuple(targets), lease_s))
        return self

    def resolve(self, body: object, timeout_s: float | None = None, *, abort: Signal | None = None,
                progress: object = None, renew_s: float | None = None) -> object:
        return body

    def lend(self, manifest: Manifest, lent: Sequence[Leaf]) -> Source:
        self.transaction = Loan(bytes([len(self.asked)]))
        return Source("server", bytes(16), bytes(16), manifest.bytes_total)

    def undeliverable(self) -> None:
        self.fate.append("undeliverable")

    def excuse(self, count: int) -> None:
        self.fate.append(count)

    def miss(self, target: str) -> None:
        self.fate.append(target)

    def end(self) -> None:
        assert self.transaction is not None
        self.transaction.settle()


class Desk:
    """A packing whose jobs run at once."""

    def __init__(self, packing: PackOptions = PackOptions()) -> None:
        self.book = Book()
        self.jobs: list[Job] = []
        self.packing = Packing(Options(packing=packing), self.jobs.append, lambda mark: 100.0)
        self.packing.use_lender(self.book)


def body() -> object:
    return {"w": np.zeros(LARGE, np.uint8), "n": 1}


def test_what_is_small_asks_nobody() -> None:
    desk = Desk()
    for small in (None, b"x", {"n": [1, 2]}, np.zeros(4)):
        parts, scope, has_refs = desk.packing.pack(small, ("site-1",), Sending())
        assert parts and (scope, has_refs) == (None, False)
    assert desk.book.asked == [] and len(desk.packing.lent()) == 0


def test_the_scope_is_told_for_whom_and_how_long() -> None:
    desk = Desk()
    parts, scope, has_refs = desk.packing.pack(body(), ("site-1",), Sending(receivers=["a", "b"], lending=Lending(lease_s=7.0)))
    assert (scope, has_refs) == (desk.book, True)
    desk.packing.pack(body(), ("site-1", "site-2"), Sending(receivers=2))
    request = Request("site-1", "server", 1, "task", "run", 1.0, {})
    desk.packing.pack_reply(body(), request)
    assert desk.packing.pack_reply("small", request)[1:] == (None, False)
    assert desk.book.asked == [(["a", "b"], ("site-1",), 7.0), (2, ("site-1", "site-2"), None), (1, ("site-1",), None)]


def test_nothing_is_opened_for_what_cannot_be_packed() -> None:
    desk = Desk()
    with pytest.raises(CannotPack):
        desk.packing.pack([body(), object()], ("site-1",), Sending())
    assert desk.book.asked == []


@pytest.mark.parametrize("packing", [PackOptions(lends=False), PackOptions(beside_bytes_max=4 * LARGE)])
def test_thresholds_of_one_message_are_not_the_next_ones(packing: PackOptions) -> None:
    desk = Desk()
    parts, scope, has_refs = desk.packing.pack(body(), ("site-1",), Sending(lending=Lending(packing)))
    assert (scope, has_refs, sum(map(len, parts)) > LARGE) == (None, False, True)
    assert desk.packing.pack(body(), ("site-1",), Sending())[1] is desk.book


def test_refs_are_seen_although_nothing_is_lent() -> None:
    desk = Desk(PackOptions(lends=False))
    ref = Ref(Source("site-2", bytes(16), bytes(16), 8), 0, 0, 8, "bytes")
    assert desk.packing.pack([ref], ("site-1",), Sending())[1:] == (None, True)


def test_what_is_lent_is_known_until_it_ends_and_then_its_sender_is_told() -> None:
    desk = Desk()
    told: list[object] = []
    desk.packing.pack(body(), ("site-1",), Sending(lending=Lending(on_lent=told.append)))
    (transaction,) = desk.packing.lent()
    assert transaction is desk.book.transaction and lent_by(desk.book, None)[0] is transaction
    assert repr(desk.packing) == "<Packing: 1 transactions open>"
    desk.book.end()
    assert len(desk.packing.lent()) == 0 and told == []
    desk.jobs.pop()()
    assert told == [transaction] and not desk.jobs


def test_who_raises_when_told_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.packing.pack(body(), ("site-1",), Sending(lending=Lending(on_lent=lambda transaction: 1 / 0)))
    desk.book.end()
    desk.jobs.pop()()
    assert "on_lent raised ZeroDivisionError: division by zero" in caplog.text


def test_who_cannot_be_told_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(job: Job) -> None:
        raise Busy(limit="handler_queue_max", value=1, at="server")

    packing, book = Packing(Options(), refuse, lambda mark: 100.0), Book()
    packing.use_lender(book)
    packing.pack(body(), ("site-1",), Sending(lending=Lending(on_lent=print)))
    book.end()
    assert "on_lent is not told: server is busy" in caplog.text


def test_what_a_reply_lends_ends_when_that_comes_back_within_what_is_remembered() -> None:
    desk = Desk()
    desk.packing.remember(1, desk.book)
    desk.packing.undelivered(2)
    assert desk.book.fate == []
    desk.packing.undelivered(1)
    desk.packing.undelivered(1)
    assert desk.book.fate == ["undeliverable"]
    remembered_max = Options().calls.remembered_max
    for number in range(remembered_max + 1):
        desk.packing.remember(number, desk.book)
    desk.packing.undelivered(0)
    desk.packing.undelivered(1)
    assert desk.book.fate == ["undeliverable"] * 2


# --- the fate of a message ------------------------------------------------------------------------


@pytest.mark.parametrize(("error", "fate"), [(None, []), (LOST, ["site-1"]), *((each, []) for each in MAYBE_CAME),
                                             *((each, ["undeliverable"]) for each in NEVER_CAME)])
def test_a_message_to_one_ends_what_it_lent_when_it_surely_did_not_come(error: ZdlError | None, fate: list[object]) -> None:
    book = Book()
    conclude(book, error)
    conclude(None, error)
    assert book.fate == fate


def test_of_a_message_to_many_each_is_excused_or_missed_and_the_last_one_ends_it() -> None:
    book = Book()
    shared = Shared(book, 4, is_counted=True)
    for error in (None, LOST, NEVER_CAME[0], MAYBE_CAME[0]):
        shared.ended(error)
    assert book.fate == ["site-1", 1]
    for error in NEVER_CAME:
        shared.ended(error)
    shared.ended(NEVER_CAME[0])
    assert book.fate == ["site-1", 1, 1, 1, "undeliverable"]


def test_where_receivers_are_named_nobody_is_excused() -> None:
    book = Book()
    shared = Shared(book, 2, is_counted=False)
    shared.ended(NEVER_CAME[0])
    assert book.fate == []
    shared.ended(NEVER_CAME[0])
    assert book.fate == ["undeliverable"]
    Shared(None, 1, is_counted=True).ended(NEVER_CAME[0])
    assert len(Shared(None, 1, is_counted=True).lent) == 0
