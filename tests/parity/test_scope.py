"""What a message lends: one transaction, for those to whom it goes, with the fate of the message, and known to its sender."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zdl import Lending, Lent, Options, PackOptions, Signal
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import Cancelled, CannotPack, NoRoute, PeerLost, Refused, TimedOut, ZdlError
from zdl.options import LinkOptions, OfferOptions
from zdl.protocol.effects import Outcome
from zdl.refs import Ref

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually

MIB = 1 << 20
LARGE = 2 * MIB
SITES = ("site-1", "site-2", "site-3")
QUICK = Options(links=LinkOptions(heartbeat_s=0.2), offers=OfferOptions(lost_grace_s=0.2))


class Stage:
    """server, and sites whose handlers take what comes (task/take), leave it lent (task/leave), or give (task/give)."""

    def __init__(self, trees: Trees, options: Options | None = None) -> None:
        self.server, *sites = trees.grow("server", *SITES, options=options)
        self.sites: tuple[Cell, ...] = tuple(sites)
        self.kept: list[object] = []
        for site in sites:
            site.handler("task", "take")(lambda request: len(str(request.body)))
            site.handler("task", "leave", resolve=False)(lambda request: self.kept.append(request.body))
            site.handler("task", "give")(lambda request: {"w": np.zeros(LARGE, np.uint8)})


@pytest.fixture
def stage(trees: Trees) -> Stage:
    return Stage(trees)


def large(number: int = 0) -> dict[str, Any]:
    return {"w": np.full(LARGE, number, np.uint8)}


def outcomes(lent: Lent) -> list[Outcome]:
    return [each.outcome for each in lent.wait(PATIENCE_S)]


# --- B6, B8: one transaction per message, opened when all of it is packed -------------------------


@pytest.mark.row("B6")
def test_B6_all_that_a_message_lends_is_one_transaction_and_what_is_tied_is_lent_once(stage: Stage) -> None:
    tied = np.arange(LARGE, dtype=np.uint8)
    reply = stage.server.request("site-1", "task", "leave", {"a": tied, "b": [tied, bytes(LARGE)], "c": np.zeros(LARGE)})
    (transaction,) = reply.lent
    assert stage.server.downloads.transactions == [transaction]
    (body,) = stage.kept
    assert isinstance(body, dict)
    refs = [body["a"], *body["b"], body["c"]]
    assert all(isinstance(each, Ref) for each in refs)
    assert refs[0] == refs[1] and len({each.source for each in refs}) == 1
    assert refs[0].source.bytes_total < 11 * LARGE, "the tied one would be there twice"
    reply.lent.delete()


@pytest.mark.row("B8")
@pytest.mark.parametrize("send", ["request", "broadcast", "notice", "reply"])
def test_B8_nothing_is_lent_for_a_message_of_which_a_part_cannot_travel(stage: Stage, send: str) -> None:
    bad = [large(), object()]
    if send == "reply":
        stage.sites[0].handler("task", "bad")(lambda request: bad)
        with pytest.raises(ZdlError, match="CannotPack"):
            stage.server.request("site-1", "task", "bad")
    else:
        call: Callable[..., object] = getattr(stage.server, send)
        with pytest.raises(CannotPack):
            call({"site-1": large(), "site-2": bad} if send != "request" else "site-1", "task", "take", bad)
    for cell in (stage.server, *stage.sites):
        eventually(lambda: not cell.downloads.transactions)
    assert len(stage.server.lent()) == 0


# --- M16: options and audience of one call --------------------------------------------------------


@pytest.mark.row("M16")
def test_M16_thresholds_and_whether_to_lend_belong_to_one_call(stage: Stage) -> None:
    def lent(lending: Lending | None, body: object) -> int:
        return len(stage.server.request("site-1", "task", "take", body, lending=lending).lent)

    packings = {"never": PackOptions(lends=False), "late": PackOptions(beside_bytes_max=2 * LARGE),
                "early": PackOptions(inline_bytes_max=100, beside_bytes_max=100)}
    found: dict[str, list[int]] = {name: [] for name in (*packings, "own")}

    def ask(name: str) -> None:
        lending = Lending(packings[name]) if name in packings else None
        for _ in range(10):
            found[name].append(lent(lending, large()) + 10 * lent(lending, bytes(1000)))

    threads = [threading.Thread(target=ask, args=(name,)) for name in found]  # at the same time, over the same cell
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert {name: set(values) for name, values in found.items()} == {"never": {0}, "late": {0}, "early": {11}, "own": {1}}
    assert stage.server.options == Options()


@pytest.mark.row("M16")
def test_M16_the_audience_of_one_call_is_not_the_next_ones(stage: Stage) -> None:
    named = stage.server.request("site-1", "task", "leave", large(), receivers=["site-2", "site-3"])
    plain = stage.server.request("site-1", "task", "leave", large())
    first, second = stage.kept
    for body, receivers in ((first, ["site-2", "site-1"]), (second, ["site-1"])):
        for name in receivers:
            stage.sites[SITES.index(name)].downloads.resolve(body, PATIENCE_S)
    assert outcomes(plain.lent) == [Outcome.FINISHED]
    assert len(named.lent.open) == 1
    stage.sites[2].downloads.resolve(first, PATIENCE_S)
    assert outcomes(named.lent) == [Outcome.FINISHED]


@pytest.mark.row("M16")
def test_M16_the_targets_are_the_audience(stage: Stage) -> None:
    answers = stage.server.broadcast(SITES, "task", "leave", large())
    assert all(each.is_ok for each in answers.values())
    assert len(answers.lent) == 1 and list(answers["site-2"].reply.lent) == list(answers.lent)  # type: ignore[union-attr]
    for site in stage.sites:
        assert len(answers.lent.open) == 1
        site.downloads.resolve(stage.kept[0], PATIENCE_S)
    assert outcomes(answers.lent) == [Outcome.FINISHED]


# --- the fate of the message ------------------------------------------------------------------------


@pytest.mark.row("B8", "B16")
def test_B16_what_cannot_be_delivered_is_ended_at_once(stage: Stage) -> None:
    ended: list[Outcome | None] = []

    def told(transaction: Any) -> None:
        ended.append(transaction.outcome.outcome)

    lending = Lending(on_lent=told)
    with pytest.raises(NoRoute):
        stage.server.request("site-9", "task", "take", large(), lending=lending)
    with pytest.raises(Refused):
        stage.server.request("site-1", "task", "nothing", large(), lending=lending)
    future = stage.server.request_future("site-9", "task", "take", large(), lending=lending)
    assert outcomes(future.lent) == [Outcome.UNDELIVERABLE]
    notices = stage.server.notice(["site-8", "site-9"], "task", "take", large(), lending=lending)
    assert outcomes(notices.lent) == [Outcome.UNDELIVERABLE]
    answers = stage.server.broadcast(["site-8", "site-9"], "task", "take", large(), lending=lending)
    assert outcomes(answers.lent) == [Outcome.UNDELIVERABLE]
    eventually(lambda: ended == [Outcome.UNDELIVERABLE] * 5)
    assert not stage.server.downloads.transactions


@pytest.mark.row("B16")
def test_B16_who_was_not_reached_is_not_waited_for_while_another_still_works(stage: Stage) -> None:
    entered, let_go = threading.Event(), threading.Event()

    @stage.sites[0].handler("task", "work")
    def work(request: Request) -> None:
        entered.set()
        let_go.wait(PATIENCE_S)

    answers = stage.server.broadcast(["site-1", "site-9"], "task", "work", large())
    assert entered.wait(PATIENCE_S)
    assert outcomes(answers.lent) == [Outcome.FINISHED], "site-1 has it, and site-9 is not to be had"
    let_go.set()
    assert answers["site-1"].is_ok and not answers["site-9"].is_ok


LOSING = """
with Cell(sys.argv[1], parent=sys.argv[2], options=Options(links=LinkOptions(heartbeat_s=0.2))) as cell:
    @cell.handler("task", "leave", resolve=False)
    def leave(request):
        say("entered")
        stay()
    cell.wait_ready()
    say("ready")
    stay()
"""


@pytest.mark.row("B16")
@pytest.mark.parametrize("is_alone", [True, False], ids=["request", "broadcast"])
def test_B16_a_target_that_is_lost_does_not_hold_what_was_lent_until_the_lease_ends(trees: Trees, is_alone: bool) -> None:
    stage = Stage(trees, QUICK)
    with Child(LOSING, "site-4", stage.server.addresses[0]) as child:
        child.expect("ready")
        body = large()
        held = weakref.ref(body["w"])
        if is_alone:
            future = stage.server.request_future("site-4", "task", "leave", body)
            lent, error = future.lent, future.exception
        else:
            answers = stage.server.broadcast(["site-1", "site-4"], "task", "leave", body)
            lent, error = answers.lent, lambda: answers["site-4"].error
        child.expect("entered")
        if not is_alone:
            assert answers["site-1"].is_ok
            stage.sites[0].downloads.resolve(stage.kept.pop(), PATIENCE_S)
        del body
        child.kill()
        assert isinstance(error(), PeerLost)
        (ended,) = lent.wait(PATIENCE_S)
    assert ended.receivers["site-4"] is Outcome.LOST
    assert ended.outcome is (Outcome.FAILED if is_alone else Outcome.PARTIAL)
    assert not ended.is_complete and not lent.is_complete

    def is_let_go() -> bool:
        gc.collect()
        return held() is None

    eventually(is_let_go, what="the end of the array")


# --- B9: how long -----------------------------------------------------------------------------------


@pytest.mark.row("B9")
def test_B9_a_lease_that_is_given_is_the_lease(stage: Stage) -> None:
    reply = stage.server.request("site-1", "task", "leave", large(), lending=Lending(lease_s=0.05))
    assert outcomes(reply.lent) == [Outcome.EXPIRED]
    kept = stage.server.request("site-1", "task", "leave", large())
    assert len(kept.lent.open) == 1, "the next one has its own"
    kept.lent.delete()


# --- B16, B17: who sends knows what is lent ---------------------------------------------------------


@pytest.mark.row("B16")
def test_B16_each_way_to_send_tells_what_was_lent(stage: Stage) -> None:
    server = stage.server

    async def awaited() -> list[Lent]:
        reply = await server.aio.request("site-1", "task", "leave", large())
        found = await server.aio.broadcast(["site-1"], "task", "leave", large())
        notices = await server.aio.notice("site-1", "task", "leave", large())
        assert found["site-1"].reply is not None
        return [reply.lent, found["site-1"].reply.lent, notices.lent]

    lent = [server.request("site-1", "task", "leave", large()).lent,
            server.request_future("site-1", "task", "leave", large()).lent,
            server.broadcast(["site-1"], "task", "leave", large()).lent,
            server.notice("site-1", "task", "leave", large()).lent, *asyncio.run(awaited())]
    assert [len(each) for each in lent] == [1] * len(lent)
    assert {each.id for one in lent for each in one} == {each.id for each in server.lent()}
    with pytest.raises(TimedOut, match="the end of 7 of 7 transactions"):
        server.lent().wait(0.01)
    eventually(lambda: len(stage.kept) == 7)
    for body in stage.kept:
        stage.sites[0].downloads.resolve(body, PATIENCE_S)
    assert outcomes(server.lent()) == [] or server.lent().is_complete
    assert all(outcomes(each) == [Outcome.FINISHED] for each in lent)
    eventually(lambda: len(server.lent()) == 0)
    assert len(server.request("site-1", "task", "leave", "small").lent) == 0


@pytest.mark.row("B16")
def test_B16_a_reply_lends_too_and_filters_change_nothing_of_that(stage: Stage) -> None:
    site = stage.sites[0]
    stage.server.filters.incoming_reply("task", "give")(lambda message: message.changed(headers={"seen": True}))
    reply = stage.server.request("site-1", "task", "give", large(), resolve=False)
    assert reply.headers["seen"] is True and len(reply.lent) == 1
    future = stage.server.request_future("site-1", "task", "give", large(), resolve=False)
    assert len(future.lent) == 1 and future.result(PATIENCE_S).lent[0] is future.lent[0]
    (one, other) = site.lent()
    for each in (reply, future.result()):
        stage.server.downloads.resolve(each.body, PATIENCE_S)
    assert [each.wait(PATIENCE_S).receivers for each in (one, other)] == [{"server": Outcome.FINISHED}] * 2
    eventually(lambda: len(site.lent()) == 0)


@pytest.mark.row("B16")
def test_B16_who_exits_waits_until_others_have_what_he_lent(stage: Stage) -> None:
    entered, let_go = threading.Event(), threading.Event()
    got: list[object] = []

    @stage.server.handler("task", "slow", resolve=False)
    def slow(request: Request) -> None:
        entered.set()
        let_go.wait(PATIENCE_S)
        got.append(stage.server.downloads.resolve(request.body, PATIENCE_S))

    program = """
with Cell("site-4", parent=sys.argv[1]) as cell:
    cell.wait_ready()
    cell.notice("server", "task", "slow", np.arange(1 << 20)).wait_handed()
    say("sent", len(cell.lent()))
    say("ended", *(each.outcome.value for each in cell.lent().wait(30)))
"""
    with Child(program, stage.server.addresses[0]) as child:
        assert child.expect("sent") == "1"
        assert entered.wait(PATIENCE_S) and not got
        let_go.set()
        assert child.expect("ended") == "finished"
        assert child.ended() == 0
    assert np.array_equal(got[0], np.arange(1 << 20))  # type: ignore[arg-type]


@pytest.mark.row("B16", "M7")
def test_B16_the_end_of_what_was_lent_can_be_awaited(stage: Stage) -> None:
    async def wait() -> list[Outcome]:
        reply = await stage.server.aio.request("site-1", "task", "leave", large())
        with pytest.raises(TimedOut, match="1 of 1 transactions"):
            await stage.server.aio.wait_lent(reply.lent, 0.01)
        pulling = asyncio.to_thread(stage.sites[0].downloads.resolve, stage.kept[0], PATIENCE_S)
        _, ended = await asyncio.gather(pulling, stage.server.aio.wait_lent(reply.lent, PATIENCE_S))
        return [each.outcome for each in ended]

    assert asyncio.run(wait()) == [Outcome.FINISHED]


@pytest.mark.row("B17")
def test_B17_when_all_that_a_message_lent_has_been_fetched_its_sender_is_called(stage: Stage) -> None:
    told: list[tuple[str, dict[str, Outcome]]] = []

    def heard(transaction: Any) -> None:
        """On the handler pool, so it may block."""
        stage.server.request("site-3", "task", "take")
        told.append((threading.current_thread().name, dict(transaction.outcome.receivers)))

    lending = Lending(on_lent=heard)
    stage.server.request("site-1", "task", "take", "small", lending=lending)
    stage.server.request("site-1", "task", "take", large(), lending=lending)
    eventually(lambda: told)
    ((thread, receivers),) = told
    assert thread.startswith("zdl-handler-server") and receivers == {"site-1": Outcome.FINISHED}
    told.clear()
    stage.server.broadcast(["site-1", "site-2"], "task", "take", large(), lending=lending)
    eventually(lambda: told)
    assert told.pop()[1] == {"site-1": Outcome.FINISHED, "site-2": Outcome.FINISHED}
    stage.server.notice("site-1", "task", "take", large(), lending=lending)
    eventually(lambda: told)
    assert told.pop()[1] == {"site-1": Outcome.FINISHED} and not told


# --- B18: what ends the wait ends the pulls ---------------------------------------------------------


def pulls_of(cell: Cell) -> list[ZdlError | None]:
    return [each.error for each in cell.downloads.transfers if each.seconds is not None]


@pytest.mark.row("B18")
@pytest.mark.parametrize("how", ["abort", "timeout", "future", "task"])
@pytest.mark.parametrize("side", ["request", "reply"])
def test_B18_what_ends_the_wait_ends_the_pulls_on_either_side(stage: Stage, side: str, how: str) -> None:
    origin, receiver = (stage.server, stage.sites[0]) if side == "request" else (stage.sites[0], stage.server)
    body, topic = (large(), "take") if side == "request" else (None, "give")
    entered, let_go = threading.Event(), threading.Event()

    @origin.handler("zdl", "data-addresses")
    def hold(request: Request) -> object:
        """Who pulls asks this first, and is not answered."""
        entered.set()
        return [] if let_go.wait(PATIENCE_S) else None

    async def ask() -> None:
        task = asyncio.ensure_future(stage.server.aio.request("site-1", "task", topic, body, timeout_s=None))
        await asyncio.to_thread(entered.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    if how == "task":
        asyncio.run(ask())
    else:
        abort = Signal()
        future = stage.server.request_future("site-1", "task", topic, body, abort=abort,
                                             timeout_s=0.3 if how == "timeout" else None)
        assert entered.wait(PATIENCE_S)
        if how == "abort":
            abort.trigger("enough")
        if how == "future":
            assert future.cancel()
        else:
            assert isinstance(future.exception(PATIENCE_S), Cancelled if how == "abort" else TimedOut)
    eventually(lambda: pulls_of(receiver), what="the end of the pull")
    assert isinstance(pulls_of(receiver)[-1], Cancelled)
    assert not let_go.is_set()
    let_go.set()
    for each in (stage.server, *stage.sites):
        each.lent().delete()
