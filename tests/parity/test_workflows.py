"""Messages of one workflow share an id and a time, as deep as they are nested; its end is an event at each of their cells."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from zdl import Lending, Options, Workflow
from zdl.assembly import Cell
from zdl.cell.messages import Request
from zdl.errors import Busy, Cancelled, DecodeError, OptionError, RemoteError
from zdl.options import CallOptions, OfferOptions
from zdl.protocol.effects import Outcome

from trees import Trees
from waiting import PATIENCE_S, eventually

LARGE = 2 << 20
NAMES = ("server", "site-1", "site-1.w0", "site-2")
MINIMUM_S = 5.0


class Stage:
    """A server, two sites and a worker below one; task/pass asks the next one on, task/see notes what is seen."""

    def __init__(self, trees: Trees) -> None:
        options = Options(offers=OfferOptions(lease_min_s=MINIMUM_S))
        self.server, self.site, self.worker, self.other = trees.grow(*NAMES, options=options)
        self.seen: list[tuple[str, Workflow | None]] = []
        for cell in (self.site, self.worker, self.other):
            cell.handler("task", "see", resolve=False)(self._see)
        self.site.handler("task", "pass", resolve=False)(self._pass)
        self.site.handler("task", "hand", resolve=False)(self._hand)

    def _see(self, request: Request) -> object:
        self.seen.append((request.target, request.workflow))
        return dict(request.headers)

    def _pass(self, request: Request) -> object:
        self._see(request)
        return request.request("site-1.w0", "task", "see", headers=request.headers).body

    def _hand(self, request: Request) -> object:
        self._see(request)
        return request.forward("site-1.w0", topic="see")

    def found(self) -> dict[str, Workflow | None]:
        found, self.seen = dict(self.seen), []
        return found


class Lying(Workflow):
    """One that says what is no header."""

    def __init__(self) -> None:
        super().__init__(bytes(16), 0.0, lambda workflow, why: None)

    def carried(self, targets: Sequence[str]) -> dict[str, object]:
        return {"zdl-workflow": b"short"}


@pytest.fixture
def stage(trees: Trees) -> Stage:
    return Stage(trees)


@pytest.mark.row("M18")
@pytest.mark.parametrize("topic", ["pass", "hand"])
def test_M18_nested_requests_share_the_id_and_the_time_only_grows_less(stage: Stage, topic: str) -> None:
    with stage.server.workflow(ttl_s=100.0) as work:
        headers = stage.server.request("site-1", "task", topic, 1, headers={"mine": 1}, workflow=work).body
        found = stage.found()
        assert headers == {"mine": 1}, "its header is not the users'"
        assert found.keys() == {"site-1", "site-1.w0"}
        for each in found.values():
            assert each is not None and each.id == work.id and 90.0 < each.left_s() <= 100.0
    for each in found.values():
        assert each is not None
        eventually(lambda: each.ended.is_triggered, what=f"the end of {each!r}")


@pytest.mark.row("M18")
def test_M18_every_way_to_send_takes_part(stage: Stage) -> None:
    server = stage.server
    work = server.workflow(100.0)

    async def awaited() -> None:
        await server.aio.request("site-1", "task", "see", workflow=work)
        await server.aio.broadcast(["site-1"], "task", "see", workflow=work)
        await server.aio.notice("site-1", "task", "see", workflow=work)
        await server.aio.replies.request("site-1", "task", "see", workflow=work)

    server.request("site-1", "task", "see", workflow=work)
    server.request_future("site-1", "task", "see", workflow=work).result(PATIENCE_S)
    assert all(each.is_ok for each in server.broadcast(["site-1"], "task", "see", workflow=work).values())
    server.notice("site-1", "task", "see", workflow=work)
    server.replies.request("site-1", "task", "see", workflow=work)
    asyncio.run(awaited())
    eventually(lambda: len(stage.seen) == 9)
    assert {None if each is None else each.id for _, each in stage.seen} == {work.id}
    server.request("site-1", "task", "see")
    assert stage.seen[-1] == ("site-1", None)
    work.end()


@pytest.mark.row("M18")
def test_M18_what_a_handler_asks_belongs_to_it_and_may_be_put_into_another(stage: Stage) -> None:
    own = stage.site.workflow(50.0)

    @stage.site.handler("task", "choose")
    def choose(request: Request) -> None:
        request.request("site-1.w0", "task", "see")
        request.request("site-1.w0", "task", "see", workflow=own)
        stage.site.request("site-1.w0", "task", "see")
        stage.site.request("site-1.w0", "task", "see", workflow=request.workflow)

    with stage.server.workflow(100.0) as work:
        stage.server.request("site-1", "task", "choose", workflow=work)
    assert [None if each is None else each.id for _, each in stage.seen] == [work.id, own.id, None, work.id]
    own.end()


@pytest.mark.row("M18")
def test_M18_its_end_is_an_event_at_all_cells_that_its_messages_have_reached(stage: Stage) -> None:
    work = stage.server.workflow(100.0)
    stage.server.request("site-1", "task", "pass", workflow=work)
    stage.server.request("site-2", "task", "see", workflow=work)
    heard: dict[str, object] = {}
    for name, each in stage.found().items():
        assert each is not None
        each.ended.on_trigger(lambda name=name, each=each: heard.update({name: each.ended.value}))  # type: ignore[misc]
    work.end("the round is over")
    eventually(lambda: len(heard) == 3)
    assert heard == dict.fromkeys(("site-1", "site-1.w0", "site-2"), "the round is over")


@pytest.mark.row("M18")
def test_M18_a_cell_on_the_way_ends_it_for_those_behind_it_alone(stage: Stage) -> None:
    work = stage.server.workflow(100.0)
    stage.server.request("site-1", "task", "pass", workflow=work)
    stage.server.request("site-2", "task", "see", workflow=work)
    found = stage.found()
    site, worker, other = (found[name] for name in NAMES[1:])
    assert site is not None and worker is not None and other is not None
    site.end("no longer here")
    eventually(lambda: worker.ended.value == "no longer here")
    assert not other.ended.is_triggered and not work.ended.is_triggered
    work.end()


@pytest.mark.row("M18")
def test_M18_when_its_time_is_over_it_ends_everywhere_by_itself_and_nothing_is_sent_in_it(stage: Stage) -> None:
    work = stage.server.workflow(ttl_s=0.2)
    stage.server.request("site-1", "task", "pass", workflow=work)
    found = [each for each in stage.found().values() if each is not None]
    for each in (work, *found):
        eventually(lambda: each.ended.is_triggered)
        assert each.ended.value == "its time is over"
    with pytest.raises(Cancelled, match="its time is over"):
        stage.server.request("site-1", "task", "see", np.zeros(LARGE), workflow=work)
    for call in (stage.server.broadcast, stage.server.notice):
        with pytest.raises(Cancelled):
            call(["site-1"], "task", "see", np.zeros(LARGE), workflow=work)  # type: ignore[operator]
    assert not stage.server.downloads.transactions and not stage.seen


@pytest.mark.row("M18")
def test_M18_its_end_may_end_a_call(stage: Stage) -> None:
    entered, let_go = threading.Event(), threading.Event()
    aborted: list[object] = []

    @stage.site.handler("task", "work")
    def handle(request: Request) -> None:
        request.abort.on_trigger(lambda: aborted.append(True))
        entered.set()
        let_go.wait(PATIENCE_S)

    work = stage.server.workflow(100.0)
    future = stage.server.request_future("site-1", "task", "work", workflow=work, abort=work.ended, timeout_s=None)
    assert entered.wait(PATIENCE_S)
    work.end()
    assert isinstance(future.exception(PATIENCE_S), Cancelled)
    eventually(lambda: aborted)
    let_go.set()


@pytest.mark.row("M18")
def test_M18_what_others_say_of_its_time_is_bounded_and_what_is_no_header_is_told(stage: Stage) -> None:
    with pytest.raises(OptionError, match="workflow_ttl_max_s"):
        stage.server.workflow(1e9)
    with pytest.raises(OptionError, match="zdl's own"):
        stage.server.request("site-1", "task", "see", headers={"zdl-workflow": b"x" * 24})
    with pytest.raises(DecodeError, match="zdl-workflow"):
        stage.server.request("site-1", "task", "see", workflow=Lying())


# --- B9: how long what its messages lend is lent ---------------------------------------------------


def lease_of(cell: Cell) -> float:
    """What is left of the lease of the one transaction that messages of a cell have lent."""
    (transaction,) = cell.lent()
    facts = cell.lane.lent.facts(transaction.id)
    assert facts is not None
    return facts.lease_left_s


@pytest.mark.row("B9")
@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize(("ttl_s", "least_s", "most_s"), [(100.0, 90.0, 100.0), (1.0, MINIMUM_S - 1.0, MINIMUM_S)])
def test_B9_the_lease_follows_the_time_of_the_workflow_and_is_never_below_the_minimum(
        stage: Stage, side: str, ttl_s: float, least_s: float, most_s: float) -> None:
    stage.site.handler("task", "give")(lambda request: np.zeros(LARGE))
    with stage.server.workflow(ttl_s) as work:
        if side == "request":
            stage.server.request("site-1", "task", "see", np.zeros(LARGE), workflow=work)
            assert len(work.lent) == 1
        else:
            stage.server.request("site-1", "task", "give", resolve=False, workflow=work)
        cell = stage.server if side == "request" else stage.site
        assert least_s <= lease_of(cell) <= most_s
    cell.lent().delete()


@pytest.mark.row("B9")
def test_B9_a_lease_that_is_given_counts_whatever_the_workflow_and_the_minimum(stage: Stage) -> None:
    with stage.server.workflow(100.0) as work:
        reply = stage.server.request("site-1", "task", "see", np.zeros(LARGE), workflow=work, lending=Lending(lease_s=0.05))
        assert [each.outcome for each in reply.lent.wait(PATIENCE_S)] == [Outcome.EXPIRED]
        assert len(work.lent) == 0
        kept = stage.server.request("site-1", "task", "see", np.zeros(LARGE), workflow=work)
        work.lent.delete()
        assert [each.outcome for each in kept.lent.wait(PATIENCE_S)] == [Outcome.DELETED]


@pytest.mark.row("B9")
def test_B9_without_a_workflow_the_lease_is_the_option(stage: Stage) -> None:
    stage.server.request("site-1", "task", "see", np.zeros(LARGE))
    lease_s = stage.server.options.offers.lease_s
    assert lease_s - 60.0 < lease_of(stage.server) <= lease_s
    stage.server.lent().delete()


@pytest.mark.row("M18")
def test_M18_a_cell_that_is_part_of_too_many_says_so(trees: Trees) -> None:
    (server,) = trees.grow("server")
    site = trees.add(Cell("site-1", parent=server.addresses[0], options=Options(calls=CallOptions(workflows_max=1))))
    site.handler("task", "see")(lambda request: request.workflow is not None)
    with site.workflow(10.0), server.workflow(10.0) as work:
        with pytest.raises(RemoteError, match="workflows_max"):
            server.request("site-1", "task", "see", workflow=work)
        with pytest.raises(Busy, match="workflows_max"):
            site.workflow(1.0)
    with server.workflow(10.0) as work:
        assert server.request("site-1", "task", "see", workflow=work).body is True
