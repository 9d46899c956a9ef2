"""The mailbox: bounded, wakes a loop that sleeps, and is closed once and for all."""

from __future__ import annotations

import os
import select
import threading

import pytest

from zdl.errors import Busy, Closed
from zdl.transport.mailbox import AT_ONCE, Mailbox


def is_readable(mailbox: Mailbox) -> bool:
    return bool(select.select([mailbox.descriptor], [], [], 0)[0])


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox("server", 300)


def test_work_comes_out_in_the_order_in_which_it_was_put(mailbox: Mailbox) -> None:
    for number in range(3):
        mailbox.put(print, number, "x")
    assert mailbox.work() == [(print, (0, "x")), (print, (1, "x")), (print, (2, "x"))]
    assert mailbox.work() == []
    mailbox.close()


def test_a_full_mailbox_is_busy_and_names_its_limit(mailbox: Mailbox) -> None:
    for _ in range(300):
        mailbox.put(print)
    with pytest.raises(Busy) as caught:
        mailbox.put(print)
    assert (caught.value.limit, caught.value.value, caught.value.at) == ("mailbox_max", 300, "server")
    assert len(mailbox.work()) == AT_ONCE, "a loop that is busy looks at its sockets in between"
    assert len(mailbox.work()) == 300 - AT_ONCE
    mailbox.put(print)
    mailbox.close()


def test_a_full_mailbox_takes_what_is_bounded_elsewhere_and_a_closed_one_does_not(mailbox: Mailbox) -> None:
    for _ in range(300):
        mailbox.put(print)
    assert mailbox.may_sleep() is False
    mailbox.insist(print, "last")
    assert len(mailbox.work()) == AT_ONCE
    assert mailbox.close()[-1] == (print, ("last",))
    with pytest.raises(Closed):
        mailbox.insist(print)


def test_a_loop_that_is_awake_is_not_woken(mailbox: Mailbox) -> None:
    mailbox.put(print)
    assert not is_readable(mailbox)
    mailbox.close()


def test_a_loop_that_sleeps_is_woken_once(mailbox: Mailbox) -> None:
    assert mailbox.may_sleep()
    mailbox.put(print, 1)
    mailbox.put(print, 2)
    assert is_readable(mailbox)
    mailbox.awake(was_woken=True)
    assert not is_readable(mailbox)
    assert len(mailbox.work()) == 2
    mailbox.close()


def test_a_loop_may_not_sleep_while_there_is_work(mailbox: Mailbox) -> None:
    mailbox.put(print)
    assert not mailbox.may_sleep()
    mailbox.put(print)
    assert not is_readable(mailbox)
    mailbox.close()


def test_what_is_left_comes_back_and_nothing_more_goes_in(mailbox: Mailbox) -> None:
    mailbox.put(print, 1)
    assert mailbox.close() == [(print, (1,))]
    with pytest.raises(Closed) as caught:
        mailbox.put(print)
    assert caught.value.fqcn == "server"
    assert "closed" in repr(mailbox)


def test_its_descriptor_is_closed(mailbox: Mailbox) -> None:
    descriptor = mailbox.descriptor
    mailbox.close()
    with pytest.raises(OSError):
        os.fstat(descriptor)


def test_nothing_is_lost_between_many_threads_and_a_loop_that_dozes(mailbox: Mailbox) -> None:
    mailbox = Mailbox("server", 100_000)
    done: list[int] = []

    def put() -> None:
        for number in range(2000):
            mailbox.put(done.append, number)

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(done) < 8000:
        if mailbox.may_sleep():
            readable, _, _ = select.select([mailbox.descriptor], [], [], 20)
            assert readable, "a wake-up was lost"
            mailbox.awake(was_woken=True)
        else:
            mailbox.awake(was_woken=is_readable(mailbox))
        for function, arguments in mailbox.work():
            function(*arguments)
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(4 * list(range(2000)))
    mailbox.close()
