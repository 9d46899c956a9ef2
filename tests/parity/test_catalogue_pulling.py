"""The scenarios of the ancestor's download service, as behaviour of zdl: the client that pulls, 7.5.

The numbers are those of the catalogue. What differs on purpose: a death is told along the tree by itself, so nobody has to
notify receivers, and nobody else may; it is known for a while only in so far as the tree knows it. Lost replies and retries are
in ``test_downloads.py`` (row D7).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from zdl import Cancelled, Cell, OptionError, OriginFailed, OriginLost, Ref, Refused, Signal
from zdl.download.consumer import Consumer
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.options import LinkOptions, Options, PullOptions
from zdl.protocol.effects import Outcome

from children import Child
from trees import Trees
from waiting import PATIENCE_S, eventually


class Numbers(Downloadable):
    """The numbers below `base_obj`; `fails` says what to do instead at some of them."""

    def __init__(self, count: int, fails: Callable[[int], Produced | None] = lambda at: None) -> None:
        super().__init__(count)
        self.fails = fails
        self.states: list[State] = []

    def produce(self, state: State, requester: str) -> Produced:
        self.states.append(dict(state))
        at = state.get("at", 0)
        instead = self.fails(at)
        if instead is not None:
            return instead
        return (ProduceRC.OK, at, {"at": at + 1}) if at < self.base_obj else (ProduceRC.EOF, None, {})


class Taker(Consumer):
    """Keeps what comes; `does` makes the state of it, and may raise."""

    def __init__(self, does: Callable[[State, Any], Any] = lambda state, data: state, *, is_pipelined: bool = False) -> None:
        self.supports_pipelining = is_pipelined
        self.does = does
        self.data: list[Any] = []
        self.ends: list[str] = []

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        self.data.append(data)
        return self.does(state, data)  # type: ignore[no-any-return]

    def download_completed(self, ref_id: str) -> None:
        self.ends.append("completed")

    def download_failed(self, ref_id: str, reason: str) -> None:
        self.ends.append(reason)


@pytest.fixture
def pair(trees: Trees) -> tuple[Cell, Cell]:
    server, one = trees.grow("server", "site-1")
    return server, one


def lent(cell: Cell, obj: object, **how: Any) -> tuple[Ref, Any]:
    transaction = cell.downloads.lend(obj, **how)
    assert isinstance(transaction.body, Ref)
    return transaction.body, transaction


def test_7_5_none_one_and_many_pieces_come_once_each_in_order(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    for count in (0, 1, 2, 50):
        for is_pipelined in (False, True):
            ref, transaction = lent(server, Numbers(count))
            taker = Taker(is_pipelined=is_pipelined)
            one.downloads.pull(ref, consumer=taker)
            assert (taker.data, taker.ends) == (list(range(count)), ["completed"])
            assert transaction.wait(PATIENCE_S).completed


def test_7_5_an_error_of_the_origin_ends_it_at_once_and_is_not_asked_for_again(pair: tuple[Cell, Cell]) -> None:
    server, one = pair

    def raises(at: int) -> Produced | None:
        if at == 2:
            raise ValueError("the layer is gone")
        return None

    def says_so(at: int) -> Produced | None:
        return (ProduceRC.ERROR, "broken", {}) if at == 2 else None

    for fails, reason in ((says_so, "broken"), (raises, "the layer is gone")):
        numbers = Numbers(5, fails)
        ref, transaction = lent(server, numbers, receivers=["site-1"])
        taker = Taker()
        with pytest.raises(OriginFailed, match=reason):
            one.downloads.pull(ref, consumer=taker, retries=5)
        assert taker.data == [0, 1] and len(taker.ends) == 1 and reason in taker.ends[0]
        assert numbers.states.count({"at": 2}) == 1
        assert dict(transaction.wait(PATIENCE_S).receivers) == {"site-1": Outcome.FAILED}


def test_7_5_what_is_not_allowed_is_not_tried_again(trees: Trees) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    with server.downloads.transaction(receivers=["site-1"], closed=True) as transaction:
        ref = transaction.add(Numbers(3))
    taker = Taker()
    with pytest.raises(Refused):
        two.downloads.pull(ref, consumer=taker, retries=50)
    assert taker.data == [] and len(taker.ends) == 1
    transaction.delete()


@pytest.mark.parametrize("when", ["before", "in", "after"])
def test_7_5_an_abort_before_and_after_a_piece_is_consumed_ends_it(pair: tuple[Cell, Cell], when: str) -> None:
    server, one = pair
    ref, transaction = lent(server, Numbers(50), receivers=["site-1"])
    abort = Signal()
    if when == "before":
        abort.trigger("x")

    def consume(state: State, data: int) -> State:
        if when == "in" and data == 3:
            abort.trigger("x")
        if when == "after" and data == 3:
            threading.Thread(target=abort.trigger, args=("x",)).start()
            eventually(lambda: abort.is_triggered)
        return state

    taker = Taker(consume)
    with pytest.raises(Cancelled, match="its signal was triggered"):
        one.downloads.pull(ref, consumer=taker, abort=abort)
    assert taker.data == ([] if when == "before" else [0, 1, 2, 3]) and len(taker.ends) == 1
    if when == "before":
        transaction.delete()
    else:
        assert dict(transaction.wait(PATIENCE_S).receivers) == {"site-1": Outcome.CANCELLED}


def bad_state(state: State, data: Any) -> Any:
    return ["no dict"]


def raising(state: State, data: Any) -> Any:
    raise ArithmeticError("cannot take it")


def in_place(state: State, data: Any) -> Any:
    state["mine"] = True
    return state


WRONG: tuple[tuple[Any, bool, type[Exception]], ...] = (
    (bad_state, False, TypeError), (bad_state, True, TypeError), (raising, False, ArithmeticError),
    (raising, True, ArithmeticError), (in_place, True, ValueError))


def test_7_5_a_consumer_that_does_wrong_is_raised_and_told_of_once(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    for does, is_pipelined, error in WRONG:
        ref, transaction = lent(server, Numbers(5), receivers=["site-1"])
        taker = Taker(does, is_pipelined=is_pipelined)
        with pytest.raises(error):
            one.downloads.pull(ref, consumer=taker)
        assert taker.data == [0] and len(taker.ends) == 1 and taker.ends != ["completed"]
        assert dict(transaction.wait(PATIENCE_S).errors) == {"site-1": "consumer-failed"}


def test_7_5_a_consumer_that_makes_states_is_asked_one_by_one_from_each_of_them(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    numbers = Numbers(10)
    ref, _ = lent(server, numbers)
    taker = Taker(lambda state, data: {"at": state["at"] + 1})  # every other one
    one.downloads.pull(ref, consumer=taker)
    assert taker.data == [0, 2, 4, 6, 8] and numbers.states == [{}, *({"at": at} for at in (2, 4, 6, 8, 10))]


def test_7_5_a_number_of_retries_that_is_none_is_refused(pair: tuple[Cell, Cell]) -> None:
    server, one = pair
    ref, transaction = lent(server, Numbers(1))
    wrong: tuple[Any, ...] = (-1, 1.5, True, "3")
    for retries in wrong:
        with pytest.raises(OptionError, match="retries"):
            one.downloads.pull(ref, retries=retries)
    assert transaction.begun == ()
    transaction.delete()


ORIGIN = """
import threading
from zdl.download.downloadable import Downloadable, ProduceRC
class Stuck(Downloadable):
    def produce(self, state, requester):
        if state:
            threading.Event().wait()
        return ProduceRC.OK, 1, {"at": 1}
cell = Cell("site-9", parent=sys.argv[1], options=Options(links=LinkOptions(heartbeat_s=0.3)))
cell.start()
cell.wait_ready(30.0)
cell.downloads.publish("it", cell.downloads.lend(Stuck(), receivers=0).body)
say("ready")
stay()
"""


def test_7_5_the_death_of_the_origin_ends_a_question_that_is_under_way_and_all_that_are_asked_of_it(trees: Trees) -> None:
    options = Options(links=LinkOptions(heartbeat_s=0.3), pulls=PullOptions(lost_timeout_s=1.0))
    server, one, two = trees.grow("server", "site-1", "site-2", options=options)
    with Child(ORIGIN, server.addresses[0]) as child:
        child.expect("ready")
        refs = [cell.downloads.find("site-9", "it") for cell in (one, two)]
        ends: list[BaseException] = []
        begun = threading.Barrier(3, timeout=PATIENCE_S)

        def pull(cell: Cell, ref: object) -> None:
            with pytest.raises(OriginLost) as caught:
                cell.downloads.pull(ref, consumer=Taker(lambda state, data: (begun.wait(), state)[1]), retries=0)
            ends.append(caught.value)

        threads = [threading.Thread(target=pull, args=each) for each in zip((one, two), refs)]
        for thread in threads:
            thread.start()
        begun.wait()
        child.kill()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert [each.origin for each in ends if isinstance(each, OriginLost)] == ["site-9", "site-9"]
    with pytest.raises(OriginLost):
        one.downloads.pull(refs[0])
