"""A signal: triggered once, by anybody, for everybody who was given it."""

from __future__ import annotations

import threading

from zdl.cell.signal import Signal


def test_it_waits_until_it_is_triggered() -> None:
    signal = Signal()
    assert (signal.is_triggered, signal.value) == (False, None)
    signal.trigger("enough")
    assert (signal.is_triggered, signal.value) == (True, "enough")
    assert repr(signal) == "<Signal triggered with 'enough'>"


def test_only_the_first_trigger_counts() -> None:
    signal, calls = Signal(), []
    signal.on_trigger(lambda: calls.append(signal.value))
    signal.trigger(1)
    signal.trigger(2)
    assert calls == [1]


def test_who_comes_late_is_called_at_once() -> None:
    signal, calls = Signal(), []
    signal.trigger()
    take_back = signal.on_trigger(lambda: calls.append(signal.value))
    assert calls == [True]
    take_back()


def test_a_wish_can_be_taken_back() -> None:
    signal, calls = Signal(), []
    take_back = signal.on_trigger(lambda: calls.append(1))
    take_back()
    take_back()
    signal.trigger()
    assert calls == []


def test_a_child_is_triggered_with_its_parent_and_not_the_other_way() -> None:
    parent = Signal()
    child, other = Signal(parent), Signal(parent)
    other.trigger("mine")
    assert not parent.is_triggered and not child.is_triggered
    parent.trigger("all")
    assert (child.value, other.value) == ("all", "mine")
    assert Signal(parent).value == "all"


def test_a_callback_may_use_the_signal_again() -> None:
    signal, calls = Signal(), []
    signal.on_trigger(lambda: signal.on_trigger(lambda: calls.append(1)))
    signal.trigger()
    assert calls == [1]


def test_a_callback_that_raises_does_not_keep_the_others_from_being_called() -> None:
    signal, calls = Signal(), []

    def stumble() -> None:
        raise RuntimeError("stumbled")

    signal.on_trigger(stumble)
    signal.on_trigger(lambda: calls.append(1))
    try:
        signal.trigger()
    except RuntimeError as error:
        calls.append(str(error))
    assert calls == [1, "stumbled"], "who triggered hears of it, when all have been called"


def test_each_callback_is_called_once_however_many_trigger() -> None:
    signal, calls = Signal(), []
    for number in range(100):
        signal.on_trigger(lambda number=number: calls.append(number))
    threads = [threading.Thread(target=signal.trigger) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == list(range(100))
