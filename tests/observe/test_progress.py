"""Progress: when an event is due, and which transfers have stalled."""

from __future__ import annotations

from zdl.observe.progress import COMPLETED, FAILED, ProgressMeter, TransferProgress, TransferProgressTracker


def meter_of(told: list[TransferProgress], interval_s: float = 10.0) -> ProgressMeter:
    return ProgressMeter(told.append, tx_id="tx", ref_id="ref", receiver_id="site-1", interval_s=interval_s)


def test_the_first_is_told_at_once_the_next_when_something_moved_and_the_interval_is_over_the_last_once() -> None:
    told: list[TransferProgress] = []
    meter = meter_of(told)
    meter.advance(0, 0, 100.0)
    meter.advance(5, 1, 101.0)
    meter.advance(0, 0, 120.0)
    meter.advance(5, 1, 121.0)
    meter.advance(1, 1, 122.0)
    meter.end(COMPLETED, 123.0)
    meter.end(FAILED, 124.0)
    meter.advance(7, 1, 200.0)
    assert [(each.state, each.sequence, each.bytes_done, each.items_done, each.timestamp) for each in told] == [
        ("start", 0, 0, 0, 100.0), ("active", 1, 5, 1, 120.0), ("completed", 2, 11, 3, 123.0)]
    assert (told[0].tx_id, told[0].ref_id, told[0].receiver_id) == ("tx", "ref", "site-1")
    assert meter.last is told[-1] and told[-1].is_end


def test_an_interval_of_0_tells_every_step() -> None:
    told: list[TransferProgress] = []
    meter = meter_of(told, 0.0)
    for step in range(4):
        meter.advance(1, 1, float(step))
    assert [each.bytes_done for each in told] == [1, 2, 3, 4]


def test_a_tracker_takes_nothing_that_is_late() -> None:
    told: list[TransferProgress] = []
    meter = meter_of(told, 0.0)
    meter.advance(5, 1, 1.0)
    meter.advance(5, 1, 2.0)
    meter.end(FAILED, 3.0)
    first, second, last = told
    tracker = TransferProgressTracker(10.0)
    assert tracker.update(second, 2.0)
    assert not tracker.update(first, 2.0) and not tracker.update(second, 2.0)
    assert tracker.update(last, 3.0)
    assert not tracker.update(TransferProgress("tx", "ref", "site-1", 9, 99, 9, 4.0, "active"), 4.0)
    assert tracker.records == [last]


def test_a_tracker_tells_what_has_stalled_from_what_has_failed() -> None:
    told: list[TransferProgress] = []
    slow = meter_of(told, 0.0)
    slow.advance(5, 1, 1.0)
    failed = ProgressMeter(told.append, tx_id="tx", ref_id="ref", receiver_id="site-2", interval_s=0.0)
    failed.advance(5, 1, 1.0)
    failed.end(FAILED, 2.0)
    tracker = TransferProgressTracker(10.0)
    for each in told:
        tracker.update(each, each.timestamp)
    assert tracker.stalled_records(10.0) == []
    assert [each.receiver_id for each in tracker.stalled_records(11.0)] == ["site-1"]
    slow.advance(1, 1, 12.0)
    tracker.update(told[-1], 12.0)
    assert tracker.stalled_records(13.0) == []
    assert (tracker.prune(11.9), tracker.prune(12.0), len(tracker.records)) == (0, 1, 1)
    tracker.remove(told[-1])
    assert tracker.records == [] and not tracker.is_stalled(told[-1], 99.0)
    tracker.update(told[-1], 12.0)
    tracker.clear()
    assert tracker.records == []
