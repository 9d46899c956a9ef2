"""Spare: memory is used again when it fits."""

from __future__ import annotations

from zdl.download.spare import KEPT_MAX, Spare


def test_memory_that_fits_is_used_again() -> None:
    spare = Spare()
    first = spare.take(5)
    assert first.nbytes == 5 and not first.readonly
    spare.give_back(first)
    assert spare.take(5) is first and spare.take(5) is not first


def test_memory_of_another_length_is_not() -> None:
    spare = Spare()
    spare.give_back(spare.take(5))
    assert spare.take(7).nbytes == 7


def test_no_more_is_kept_than_a_window_needs() -> None:
    spare = Spare()
    taken = [spare.take(1) for _ in range(KEPT_MAX + 5)]
    for view in taken:
        spare.give_back(view)
    again = [spare.take(1) for _ in range(KEPT_MAX + 1)]
    assert sum(any(view is each for each in taken) for view in again) == KEPT_MAX
