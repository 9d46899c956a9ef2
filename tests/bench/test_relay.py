"""The relay question: both ends hear each other through the relay, whichever it is."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import pytest

from zdl_bench import bare_relay, zdl_relay
from zdl_bench.relay import RelayQuestion, measure
from zdl_bench.rounds import Rounds


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
@pytest.mark.parametrize("module", [bare_relay, zdl_relay], ids=["bare", "zdl"])
def test_what_one_end_sends_the_other_receives(module: object, scheme: str) -> None:
    relay, ends = module.Origin(), module.Leaf()  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:  # a bare socket leaves its file behind
        try:
            ends.start(**relay.start(scheme=scheme, folder=folder))
            seen = ends.latency(count=20)
            assert 0 < seen["p50_us"] <= seen["p99_us"]
            assert ends.throughput(count=200, in_flight=16)["requests_per_s"] > 0
        finally:
            ends.stop()
            relay.stop()


def test_each_case_is_measured_beside_the_bare_relay() -> None:
    found = measure(RelayQuestion(latency_count=10, throughput_count=50, in_flight=8, rounds=Rounds(1, warm_ups=0)))
    assert [each.system for each in found] == ["zdl", "bare_pyzmq"] * 2


def test_a_scheme_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="tcp, ipc"):
        RelayQuestion(scheme="udp")
