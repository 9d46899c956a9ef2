"""The baselines run for real, tiny, and bring the right bytes; nothing here looks at how long that took."""

from __future__ import annotations

import pytest

from zdl_bench import pull, rtt
from zdl_bench.pull import PullQuestion
from zdl_bench.rounds import Rounds
from zdl_bench.rtt import RttQuestion
from zdl_bench.systems import refuse_wrong_bytes

ONCE = Rounds(count=1, warm_ups=0)
PULLING = ("bare_pyzmq", "bare_pyzmq_best", "raw_tcp", "raw_tcp_best", "memcpy", "memcpy_fresh")


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_the_baselines_of_pull_bring_a_mebibyte(scheme: str) -> None:
    found = pull.measure(PullQuestion(systems=PULLING, scheme=scheme, size_bytes=1 << 20,
                                      chunk_bytes=100_000, window_bytes=300_000, rounds=ONCE))
    assert [each.system for each in found] == list(PULLING)
    assert {each.case for each in found} == {f"1MiB-mixed {scheme}"}
    assert all(each.median > 0 and each.unit == "GiB/s" for each in found)
    assert "raw_tcp" in found[0].ratio and "leaf_cpu_s_per_gib" in found[0].extra


def test_the_baselines_of_pull_bring_many_small_items() -> None:
    found = pull.measure(PullQuestion(mix=("equal",), systems=("bare_pyzmq", "raw_tcp"), rounds=ONCE))
    assert {(each.case, each.unit, each.better) for each in found} == {("5000x4KiB tcp", "ms", "lower")}


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_the_baselines_of_rtt_echo(scheme: str) -> None:
    found = rtt.measure(RttQuestion(systems=("bare_pyzmq", "raw_tcp"), scheme=scheme, latency_count=50,
                                    throughput_count=200, rounds=ONCE))
    assert [(each.case, each.system) for each in found] == [
        (f"64B {scheme}", "bare_pyzmq"), (f"64B {scheme}", "raw_tcp"),
        (f"64B x64 {scheme}", "bare_pyzmq"), (f"64B x64 {scheme}", "raw_tcp"),
        (f"64B 32 callers {scheme}", "bare_pyzmq"), (f"64B 32 callers {scheme}", "raw_tcp")]
    assert "p99_us" in found[0].extra


def test_wrong_bytes_give_no_figure() -> None:
    refuse_wrong_bytes("zdl", came=7, lent=7)
    with pytest.raises(ValueError, match="zdl delivered wrong bytes"):
        refuse_wrong_bytes("zdl", came=7, lent=8)


@pytest.mark.parametrize("wrong", [{"systems": ("zmq",)}, {"mix": ("all",)}, {"scheme": "udp"}, {"leaves": 0}, {"rtt_ms": 1.0},
                                   {"rate_bytes": 1, "scheme": "ipc"}])
def test_a_pull_that_cannot_be_asked_for_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be|shaped link"):
        PullQuestion(**wrong)


@pytest.mark.parametrize("wrong", [{"systems": ("zmq",)}, {"cases": ("all",)}, {"scheme": "udp"}])
def test_a_question_that_cannot_be_asked_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        RttQuestion(**wrong)


def test_several_leaves_and_several_connections_bring_what_was_lent() -> None:
    found = pull.measure(PullQuestion(systems=("raw_tcp", "raw_tcp_many", "bare_pyzmq", "memcpy_fresh"), size_bytes=1 << 20,
                                      leaves=2, chunk_bytes=100_000, rounds=ONCE))
    assert {each.case for each in found} == {"1MiB-mixed tcp to 2"} and all(each.median > 0 for each in found)
    assert found[2].curve[-1][1] == 1 << 20
