"""The question of streams: what is pushed arrives, beside what it is compared with."""

from __future__ import annotations

import pytest

from zdl_bench import stream_roles
from zdl_bench.rounds import Rounds
from zdl_bench.stream import StreamQuestion, measure

ONCE = Rounds(1, warm_ups=0)


def test_objects_arrive_beside_bare_pyzmq() -> None:
    found = measure(StreamQuestion(cases=("objects",), systems=("bare_pyzmq", "zdl"), count=300, rounds=ONCE))
    assert [each.system for each in found] == ["bare_pyzmq", "zdl"]
    assert list(found[1].ratio) == ["bare_pyzmq"] and len(stream_roles.payload_of(1024)) > 900
    with pytest.raises(ValueError, match="case must be one of"):
        StreamQuestion(cases=("other",))


@pytest.mark.slow
def test_a_sleeper_a_stream_and_a_slow_reader_are_set_beside_others() -> None:
    found = measure(StreamQuestion(cases=("fan", "bytes", "held"), count=300, size_bytes=2 << 20, requests=50, rounds=ONCE))
    assert [each.system for each in found] == [
        "zdl_alone", "zdl_one_sleeps", "zdl_pull", "zdl", "zdl_kept", "zdl_idle", "zdl_beside"]
    assert [list(found[index].ratio) for index in (1, 3, 6)] == [["zdl_alone"], ["zdl_pull"], ["zdl_idle"]]
