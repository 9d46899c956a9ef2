"""What stands between a leaf and its origin: relays, a shaped link; and what goes through them while a pull does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zdl_bench import bare_chain, bare_mixed, bare_zmq, hops, memory, pull, zdl_mixed, zdl_pull
from zdl_bench.hops import HopsQuestion
from zdl_bench.memory import ROLES, MemoryQuestion
from zdl_bench.mixed import MixedQuestion
from zdl_bench.pull import PullQuestion
from zdl_bench.rounds import Rounds

ONCE = Rounds(1, warm_ups=0)


def test_arrays_come_through_two_of_libzmqs_relays(tmp_path: Path) -> None:
    origin, relays, leaf = bare_zmq.Origin(), [bare_chain.Relay(), bare_chain.Relay()], bare_zmq.Leaf()
    try:
        lent = origin.start(load={"kind": "mixed", "size_bytes": 1 << 20}, scheme="tcp", folder="")
        address = lent["address"]
        for relay in relays:
            address = relay.start(address=address, scheme="tcp", folder=str(tmp_path), name="relay")["address"]
        leaf.start(address=address, chunk_bytes=100_000, window_bytes=300_000, destination="aligned")
        seen = leaf.pull()
        assert seen["began_at"] < seen["ended_at"] and leaf.checked()["checksum"] == lent["checksum"]
    finally:
        for each in (leaf, *reversed(relays), origin):
            each.stop()


def test_a_request_passes_a_relay_beside_libzmqs_own() -> None:
    found = hops.measure(HopsQuestion(cases=("rtt",), count=10, rounds=ONCE))
    assert [(each.case, each.system) for each in found] == [("64B tcp 1 relay", "zdl"), ("64B tcp 1 relay", "bare_proxy")]
    assert list(found[0].ratio) == ["bare_proxy"]


BARE = {"chunk_bytes": 64 << 10, "window_bytes": 256 << 10}


@pytest.mark.parametrize(("module", "settings"), [(zdl_mixed, {}), (bare_mixed, {**BARE, "is_shared": True}),
                                                  (bare_mixed, {**BARE, "is_shared": False})], ids=["zdl", "one", "two"])
def test_small_requests_are_measured_while_something_is_pulled(module: Any, settings: dict[str, object]) -> None:
    for is_busy in (True, False):
        origin, leaf = module.Origin(), module.Leaf()
        try:
            address = origin.start(load={"kind": "mixed", "size_bytes": 4 << 20}, scheme="tcp", folder="")["address"]
            leaf.start(address=address, is_busy=is_busy, **settings)
            for _ in range(2):
                seen = leaf.requests(count=20)
                assert 0 < seen["p50_us"] <= seen["p99_us"] <= seen["max_us"]
                assert ("bulk_gib_per_s" in seen) == is_busy
        finally:
            leaf.stop()
            origin.stop()


def test_the_growth_of_each_role_stands_beside_its_bound() -> None:
    found = memory.measure(MemoryQuestion(size_bytes=1 << 20, pulls=1, rounds=ONCE))
    assert len(found) == 2 * 2 * len(ROLES)
    assert all(0 <= each.median for each in found) and {each.system for each in found} == {"zdl", "zdl_routed", "bound"}


def test_a_pull_goes_through_a_shaped_link() -> None:
    found = pull.measure(PullQuestion(systems=("zdl", "raw_tcp"), size_bytes=1 << 20, rtt_ms=10, rate_bytes=20 << 20, rounds=ONCE))
    assert {each.case for each in found} == {"1MiB-mixed tcp 168Mbit/s 10ms"}
    # Faster than the link it cannot have been.
    assert all(each.median <= 20 / 1024 for each in found)


@pytest.mark.parametrize(("question", "wrong"), [(HopsQuestion, {"relays": 4}), (MixedQuestion, {"rtt_ms": 1.0}),
                                                 (MemoryQuestion, {"pulls": 0})])
def test_what_cannot_be_asked_is_refused(question: type[object], wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be|needs"):
        question(**wrong)


def test_a_pull_on_one_machine_is_handed_over_as_memory() -> None:
    recipe = pull.recipe("zdl", PullQuestion(scheme="local"))
    origin, leaf = zdl_pull.Origin(), zdl_pull.Leaf()
    try:
        lent = origin.start(load={"kind": "mixed", "size_bytes": 8 << 20}, scheme="tcp", folder="")
        leaf.start(address=lent["address"], **recipe.settings)
        leaf.pull()
        assert leaf.checked()["checksum"] == lent["checksum"]
    finally:
        leaf.stop()
        origin.stop()
