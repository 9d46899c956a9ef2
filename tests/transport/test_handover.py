"""Handing memory over: to who has a ticket, once; from who knows the secret; and nothing is left of it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from zdl.errors import Busy, Closed
from zdl.transport import handover
from zdl.transport.handover import CALLERS_MAX, TICKETS_MAX, Handover, taken

from waiting import PATIENCE_S, eventually

SECRET = b"s" * 16


@pytest.fixture
def origin() -> Iterator[Handover]:
    made = Handover("server", lambda now: None)
    yield made
    assert made.close(PATIENCE_S)


def giving(*texts: bytes) -> Callable[[], list[int]]:
    """Opens a file for each text."""
    def give() -> list[int]:
        """Files without names."""
        found = []
        for text in texts:
            found.append(os.memfd_create("given"))
            os.pwrite(found[-1], text, 0)
        return found

    return give


def descriptors_count() -> int:
    return len(os.listdir("/proc/self/fd"))


def fetched(address: str, ticket: bytes, count: int, secret: bytes = SECRET) -> list[bytes]:
    """What the files hold that are handed over."""
    descriptors = taken(address, ticket, secret, count=count, timeout_s=PATIENCE_S)
    try:
        assert all(not os.get_inheritable(each) for each in descriptors)
        return [os.pread(each, 100, 0) for each in descriptors]
    finally:
        for each in descriptors:
            os.close(each)


def test_who_has_a_ticket_gets_what_it_stands_for_in_order(origin: Handover) -> None:
    first, second = origin.promise(giving(b"one", b"two"), SECRET), origin.promise(giving(b"three"), SECRET)
    assert fetched(*second, 1) == [b"three"]
    assert fetched(*first, 2) == [b"one", b"two"]


def test_more_than_fit_into_one_message_are_handed_over(origin: Handover) -> None:
    texts = [str(number).encode() for number in range(2 * handover.DESCRIPTORS_MAX + 3)]
    assert fetched(*origin.promise(giving(*texts), SECRET), len(texts)) == texts


def test_a_ticket_is_good_once(origin: Handover) -> None:
    address, ticket = origin.promise(giving(b"one"), SECRET)
    assert fetched(address, ticket, 1) == [b"one"]
    for wrong in (ticket, b"", b"x", os.urandom(16), os.urandom(100)):
        with pytest.raises(OSError):
            fetched(address, wrong, 1)


def test_what_may_not_be_had_any_more_is_not_handed_over(origin: Handover) -> None:
    address, ticket = origin.promise(list, SECRET)
    with pytest.raises(ConnectionError, match="has not handed it over"):
        fetched(address, ticket, 1)


def test_who_does_not_know_the_secret_cannot_pass_for_the_origin(origin: Handover) -> None:
    before = descriptors_count()
    address, ticket = origin.promise(giving(b"forged"), b"another one")
    with pytest.raises(ConnectionError, match="not its origin"):
        fetched(address, ticket, 1)
    address, ticket = origin.promise(giving(b"one", b"two"), SECRET)
    with pytest.raises(ConnectionError):
        fetched(address, ticket, 1)
    eventually(lambda: descriptors_count() <= before + 2, what="the end of what was handed over in vain")


def test_an_origin_that_is_gone_is_told_at_once(origin: Handover) -> None:
    address, ticket = origin.promise(giving(b"one"), SECRET)
    origin.close(PATIENCE_S)
    with pytest.raises(ConnectionRefusedError):
        fetched(address, ticket, 1)
    with pytest.raises(Closed):
        origin.promise(giving(b"one"), SECRET)


def test_tickets_are_bounded(origin: Handover) -> None:
    for _ in range(TICKETS_MAX):
        origin.promise(list, SECRET)
    with pytest.raises(Busy, match="TICKETS_MAX"):
        origin.promise(list, SECRET)


def test_callers_who_say_nothing_keep_nobody_out(origin: Handover) -> None:
    address, ticket = origin.promise(giving(b"one"), SECRET)
    silent = []
    for _ in range(CALLERS_MAX + 10):
        silent.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        silent[-1].connect(b"\0" + address.encode())
    assert fetched(address, ticket, 1) == [b"one"]
    for each in silent:
        each.close()


def test_the_thread_looks_after_things_when_it_is_told_and_when_it_wants_to() -> None:
    looks: list[float] = []
    done = threading.Event()

    def look(now: float) -> float | None:
        """Three times."""
        looks.append(now)
        if len(looks) == 3:
            done.set()
        return now + 0.001 if len(looks) < 3 else None

    keeper = Handover("server", look)
    assert not looks
    keeper.wake()
    assert done.wait(PATIENCE_S)
    keeper.wake()
    eventually(lambda: len(looks) > 3)
    assert keeper.close(PATIENCE_S) and keeper.close(PATIENCE_S)


def test_no_descriptor_and_no_thread_is_left(origin: Handover) -> None:
    before = descriptors_count()
    one = Handover("site-1", lambda now: None)
    assert fetched(*one.promise(giving(b"one"), SECRET), 1) == [b"one"]
    assert one.close(PATIENCE_S)
    one.wake()
    assert descriptors_count() == before
    assert not [thread for thread in threading.enumerate() if thread.name == "zdl-segments-site-1"]
