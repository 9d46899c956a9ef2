"""Same host: what is asked for at all, what is told while an origin is at it, and how a wait for it ends."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.download.patience import Limits, Patience
from zdl.download.puller import CHANNEL, Transfer
from zdl.download.samehost import SAME_HOST_TOPIC, WHY_MAX, NotHere, SameHost
from zdl.errors import Cancelled, TimedOut
from zdl.options import Options, Pace, PullOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref, Source

from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
SOURCE = Source("server", bytes(16), bytes(16), 8 * MIB)


def test_what_nobody_would_expect_has_no_reason_and_all_else_is_asked_for(trees: Trees) -> None:
    (server,) = trees.grow("server")
    same_host = SameHost(server)
    elsewhere = Source("site-1", bytes(16), bytes(16), 8 * MIB)
    anybody = Patience(SOURCE, Limits())
    assert same_host.why_not(SOURCE, 8 * MIB, anybody) == "", "its own"
    assert same_host.why_not(elsewhere, 4 * MIB - 1, anybody) == "", "a few bytes"
    assert same_host.why_not(elsewhere, 4 * MIB, anybody) is None
    assert same_host.why_not(elsewhere, 4 * MIB, Patience(SOURCE, Limits(pace=Pace(priority="background")))) is None
    limited = Patience(SOURCE, Limits(pace=Pace(bwlimit_bytes_per_s=1e9)))
    assert "limit of bandwidth" in (same_host.why_not(elsewhere, 4 * MIB, limited) or "")


def test_a_reason_that_lasts_is_known_for_as_many_origins_as_there_is_room_for(trees: Trees) -> None:
    (server,) = trees.grow("server")
    same_host, anybody = SameHost(server), Patience(SOURCE, Limits())

    def why_not(origin: str) -> str | None:
        return same_host.why_not(Source(origin, bytes(16), bytes(16), 8 * MIB), 8 * MIB, anybody)

    assert same_host.noted("site-1", NotHere("not now", is_lasting=False)) == "not now" and why_not("site-1") is None
    for number in range(WHY_MAX + 1):
        same_host.noted(f"site-{number}", NotHere("elsewhere", is_lasting=True))
    assert why_not("site-0") is None and why_not("site-1") == why_not(f"site-{WHY_MAX}") == "elsewhere"


def test_what_an_origin_tells_while_it_is_at_it_moves_the_transfer_and_renews_the_wait(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    heard: list[int] = []

    @server.handler(CHANNEL, SAME_HOST_TOPIC)
    def answer(request: Request) -> object:
        for done in (5, "x", -1, 10**9):
            request.progress({"done": done})
        request.progress()
        eventually(lambda: len(heard) == 5)
        return {"it": "is here"}

    for is_all, wanted in ((True, [5, 5, 0, 100, 100]), (False, [0] * 5)):
        heard.clear()
        transfer = Transfer("server", "it", 100)
        told = SameHost(site).ask(SOURCE, {}, Patience(SOURCE, Limits(timeout_s=PATIENCE_S), heard.append), transfer, is_all=is_all)
        assert told == {"it": "is here"} and heard == wanted and transfer.bytes_done == wanted[-1]
        assert transfer.moved_at > 0


def test_an_origin_that_does_not_answer_is_not_waited_for_and_not_asked_again(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=Options(pulls=PullOptions(lost_timeout_s=0.2)))
    let_go = threading.Event()
    server.handler(CHANNEL, SAME_HOST_TOPIC)(lambda request: let_go.wait(PATIENCE_S))
    array = np.arange(MIB)
    lent = server.downloads.lend(array, receivers=0)
    for _ in range(2):
        assert np.array_equal(site.downloads.pull(lent.body), array)  # type: ignore[arg-type]
    let_go.set()
    whys = {each.why_not_shared for each in site.downloads.transfers}
    assert len(whys) == 1 and "did not say where it is" in whys.pop()


@pytest.mark.row("D17")
@pytest.mark.parametrize("into", [False, True])
def test_who_gives_up_while_his_bytes_are_copied_is_counted_as_such(trees: Trees, into: bool) -> None:
    server, site = trees.grow("server", "site-1")
    lent = server.downloads.lend(np.zeros(MIB), receivers=["site-1"])
    assert isinstance(lent.body, Ref)
    abort = Signal()

    @server.handler(CHANNEL, SAME_HOST_TOPIC)
    def answer(request: Request) -> object:
        abort.trigger("enough")
        eventually(lambda: request.abort.is_triggered)
        return None

    with pytest.raises(Cancelled, match="enough"):
        site.downloads.pull(lent.body, np.ones(MIB) if into else None, abort=abort)
    (transfer,) = site.downloads.transfers
    assert isinstance(transfer.error, Cancelled) and transfer.seconds is not None and transfer.way == ""
    assert lent.wait(PATIENCE_S).receivers == {"site-1": Outcome.CANCELLED}


def test_who_has_not_the_time_for_it_is_late(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    let_go = threading.Event()
    server.handler(CHANNEL, SAME_HOST_TOPIC)(lambda request: let_go.wait(PATIENCE_S))
    lent = server.downloads.lend(np.zeros(MIB), receivers=0)
    with pytest.raises(TimedOut):
        site.downloads.pull(lent.body, timeout_s=0.05)
    let_go.set()
    assert isinstance(site.downloads.transfers[-1].error, TimedOut)
