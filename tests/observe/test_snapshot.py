"""Snapshot: what a cell says about itself, and how it reads as plain values."""

from __future__ import annotations

import msgpack
import pytest

from zdl.observe.snapshot import LinkFacts, ProcessFacts, Snapshot, TrafficFacts, TransferFacts


@pytest.fixture
def snapshot() -> Snapshot:
    return Snapshot(
        fqcn="site-1", incarnation="ab" * 16, addresses=("tcp://127.0.0.1:1",), data_addresses=("tcp://127.0.0.1:2",),
        links=(LinkFacts("server", "control", "parent", "up", "tcp://127.0.0.1:3"),),
        traffic=(TrafficFacts("server", "data", 1, 2, 3, 4),),
        transfers=(TransferFacts("server", "ref:00…", 10, 5, "direct", "", None, ""),),
        lent_count=7, parent_error="", process=ProcessFacts(123, 0.5, 1000, 2000), below_count=3)


def test_plain_values_say_all_that_the_snapshot_says(snapshot: Snapshot) -> None:
    assert snapshot.plain() == {
        "fqcn": "site-1", "incarnation": "ab" * 16, "addresses": ("tcp://127.0.0.1:1",),
        "data_addresses": ("tcp://127.0.0.1:2",),
        "links": ({"fqcn": "server", "lane": "control", "role": "parent", "state": "up", "address": "tcp://127.0.0.1:3"},),
        "traffic": ({"fqcn": "server", "lane": "data", "bytes_in": 1, "bytes_out": 2, "messages_in": 3, "messages_out": 4},),
        "transfers": ({"origin": "server", "label": "ref:00…", "bytes_total": 10, "bytes_done": 5, "way": "direct",
                       "why": "", "seconds": None, "error": "", "why_not_shared": "", "age_s": 0.0, "silent_s": 0.0},),
        "lent_count": 7, "parent_error": "",
        "process": {"pid": 123, "cpu_s": 0.5, "rss_bytes": 1000, "rss_peak_bytes": 2000},
        "below_count": 3, "running": ()}


def test_plain_values_travel(snapshot: Snapshot) -> None:
    plain = snapshot.plain()
    back = msgpack.unpackb(msgpack.packb(plain), use_list=False)
    assert back == plain


def test_a_snapshot_does_not_change(snapshot: Snapshot) -> None:
    with pytest.raises(AttributeError):
        snapshot.lent_count = 8  # type: ignore[misc]
    snapshot.plain()["fqcn"] = "other"
    assert snapshot.plain()["fqcn"] == "site-1"
