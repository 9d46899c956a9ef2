"""Interrupts: a Ctrl-C in the middle of what must not be left half done is heard right after it."""

from __future__ import annotations

import signal
import threading

import pytest

from zdl.transport.interrupts import Interrupts


def test_an_interrupt_is_put_off_until_it_is_let_go() -> None:
    interrupts = Interrupts()
    done: list[str] = []
    held = interrupts.hold()
    signal.raise_signal(signal.SIGINT)
    done.append("the whole of it")
    with pytest.raises(KeyboardInterrupt):
        interrupts.let_go(held)
    assert done == ["the whole of it"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_is_left_behind() -> None:
    interrupts = Interrupts()
    interrupts.let_go(interrupts.hold())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_two_that_are_nested_hear_it_at_the_outer_end() -> None:
    outer, inner = Interrupts(), Interrupts()
    first = outer.hold()
    second = inner.hold()
    signal.raise_signal(signal.SIGINT)
    inner.let_go(second)
    with pytest.raises(KeyboardInterrupt):
        outer.let_go(first)


def test_the_users_own_handler_is_the_one_that_is_called() -> None:
    called: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: called.append(number))
    try:
        interrupts = Interrupts()
        held = interrupts.hold()
        signal.raise_signal(signal.SIGINT)
        assert called == []
        interrupts.let_go(held)
        assert called == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_where_nobody_in_python_hears_interrupts_there_is_nothing_to_put_off() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert Interrupts().hold() is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_never_interrupted() -> None:
    held: list[object] = [0]
    interrupts = Interrupts()
    thread = threading.Thread(target=lambda: held.append(interrupts.hold()))
    thread.start()
    thread.join()
    assert held == [0, None]
    interrupts.let_go(None)
