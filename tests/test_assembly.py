"""Cell: what everybody gets: downloads, a snapshot of itself, an answer to a ping."""

from __future__ import annotations

import os

import numpy as np
import pytest

from zdl.assembly import CHANNEL, PING_TOPIC, SNAPSHOT_TOPIC, Cell, process_facts
from zdl.cell.cell import BareCell
from zdl.errors import Closed, LeaseEnded

from trees import Trees
from waiting import PATIENCE_S, eventually


def test_a_cell_tells_about_itself(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", same_host=False)
    # Else the pull would dial the parent a second time.
    eventually(lambda: [each.state for each in site.peers] == ["up", "up"], what="the data lane")
    lent = server.downloads.lend(np.arange(1 << 20))
    site.downloads.resolve(lent.body)
    lent.wait(PATIENCE_S)
    second = server.downloads.lend(np.arange(10))
    here, there = server.snapshot(), site.snapshot()
    assert (here.fqcn, here.incarnation, here.addresses, here.data_addresses, here.parent_error) == (
        "server", server.incarnation, server.addresses, server.data_addresses, "")
    assert here.incarnation != there.incarnation
    assert {(link.fqcn, link.lane, link.role, link.state) for link in there.links} == {
        ("server", "control", "parent", "up"), ("server", "data", "parent", "up")}
    assert {(link.fqcn, link.lane, link.role) for link in here.links} == {
        ("site-1", "control", "child"), ("site-1", "data", "child")}
    # A connection that ended before its peer had said its name is counted under none.
    (data,) = [each for each in here.traffic if each.lane == "data" and each.fqcn]
    assert (data.fqcn, data.bytes_out, data.bytes_in) == ("site-1", 8 << 20, 0)
    (transfer,) = there.transfers
    assert (transfer.origin, transfer.bytes_total, transfer.bytes_done, transfer.way, transfer.error) == (
        "server", 8 << 20, 8 << 20, "direct", "")
    assert transfer.seconds is not None and transfer.seconds > 0
    assert (here.lent_count, there.lent_count, here.transfers) == (1, 0, ())
    second.delete()


def test_every_cell_may_ask_another_for_its_snapshot(trees: Trees) -> None:
    server, _, two = trees.grow("server", "site-1", "site-2")
    told = two.request("site-1", CHANNEL, SNAPSHOT_TOPIC).body
    assert isinstance(told, dict)
    assert (told["fqcn"], told["process"]["pid"], told["lent_count"]) == ("site-1", os.getpid(), 0)
    own = server.snapshot().plain()
    assert told.keys() == own.keys()


def test_every_cell_answers_a_ping(trees: Trees) -> None:
    _, one, two = trees.grow("server", "site-1", "site-2")
    reply = one.request("site-2", CHANNEL, PING_TOPIC)
    assert (reply.body, reply.origin, reply.hops) == (None, "site-2", 1)


def test_a_failed_transfer_is_in_the_snapshot_with_its_reason(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    lent = server.downloads.lend(np.arange(1000))
    lent.delete()
    lent.wait(PATIENCE_S)
    with pytest.raises(LeaseEnded, match="no longer lent"):
        site.downloads.resolve(lent.body)
    (transfer,) = site.snapshot().transfers
    assert transfer.error.endswith("is no longer lent: deleted") and transfer.bytes_done == 0


def test_a_lost_parent_is_in_the_snapshot(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    assert site.snapshot().parent_error == ""
    server.close()
    eventually(lambda: "is lost, says site-1" in site.snapshot().parent_error)


def test_a_process_knows_its_own_costs() -> None:
    facts = process_facts()
    assert facts.pid == os.getpid()
    assert facts.cpu_s > 0
    assert 0 < facts.rss_bytes <= facts.rss_peak_bytes


def test_a_bare_cell_answers_no_snapshot_and_a_cell_that_is_closed_has_none(trees: Trees) -> None:
    (server,) = trees.grow("server")
    assert isinstance(server, BareCell) and not hasattr(BareCell("server", listen="tcp://127.0.0.1:0"), "downloads")
    server.close()
    with pytest.raises(Closed):
        server.snapshot()
    with pytest.raises(Closed):
        Cell("server", listen="tcp://127.0.0.1:0").snapshot()
