"""Whatever goes wrong in a stream of objects: both ends hear of it by name, in order, and nothing of it is left."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from streaming.test_receiver import KEY, Counting, Noting

from zdl.assembly import Cell
from zdl.cell.handlers import Raised, guarded
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, CannotPack, Closed, Refused, RemoteError, StreamError, TimedOut
from zdl.options import Options, StreamOptions
from zdl.streaming.api import Context, ObjectConsumer

from trees import Trees
from waiting import PATIENCE_S, eventually


@dataclass(frozen=True)
class Misfortune:
    """What goes wrong, and with what the stream ends at either side; None: the receiver's own code is not told any more."""

    name: str
    sender: type[BaseException]
    receiver: type[BaseException] | None


MISFORTUNES = [
    Misfortune("produce 1", ValueError, RemoteError), Misfortune("produce 3", ValueError, RemoteError),
    Misfortune("pack", CannotPack, CannotPack), Misfortune("replies", ValueError, RemoteError),
    Misfortune("verdict", StreamError, StreamError), Misfortune("abort", Cancelled, Cancelled),
    Misfortune("get", RemoteError, None), Misfortune("consume 1", RemoteError, RemoteError),
    Misfortune("consume 3", RemoteError, RemoteError), Misfortune("finalize", RemoteError, RemoteError),
    Misfortune("done", RemoteError, None), Misfortune("consumed", RemoteError, RemoteError),
    Misfortune("reply", CannotPack, CannotPack), Misfortune("sender closes", Closed, Closed),
    Misfortune("receiver closes", Closed, Closed), Misfortune("nobody", Refused, None),
    Misfortune("factory blocks", TimedOut, TimedOut), Misfortune("consumer blocks", TimedOut, TimedOut),
]


class Clumsy(Counting):
    """Makes objects with a leaf that is lent, until something goes wrong."""

    def __init__(self, what: str, signal: Signal) -> None:
        super().__init__(1 << 60, timeout_s=0.3 if "blocks" in what else 30)
        self._what = what
        self._signal = signal

    def produce(self, context: Context) -> tuple[object, float | None]:
        number, timeout_s = super().produce(context)
        if self._what == f"produce {number}":
            raise ValueError("mine")
        if self._what == "pack" and number == 3:
            return object(), timeout_s
        return {"number": number, "leaf": np.full(50_000, number)}, timeout_s

    def process_replies(self, replies: Mapping[str, object], context: Context) -> object:
        if self._what == "replies":
            raise ValueError("mine")
        if self._what == "abort":
            self._signal.trigger("enough")
        return False if self._what == "verdict" else None


class Unlucky(Noting):
    """Consumes objects until something goes wrong."""

    def __init__(self, what: str, may_go_on: threading.Event, begun: threading.Event) -> None:
        super().__init__()
        self._what = what
        self._may_go_on = may_go_on
        self._begun = begun
        self.raises_in = what

    def get_consumer(self, context: Context) -> ObjectConsumer:
        if self._what == "factory blocks":
            self._may_go_on.wait(PATIENCE_S)
        return super().get_consumer(context)

    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        assert isinstance(obj, dict) and obj["leaf"].sum() == obj["number"] * 50_000
        self._note(f"consume {obj['number']}")
        self._begun.set()
        if self._what == "consumer blocks":
            self._may_go_on.wait(PATIENCE_S)
        return self._what != "finalize" and self._what != "done", object() if self._what == "reply" else None

    def consumed(self, context: Context) -> object:
        if self._what == "consumed":
            raise ValueError("mine")
        return None


def is_clean(cell: Cell) -> bool:
    """Of its streams nothing is left: no conversation, no thread at work, nothing lent."""
    crew = cell.streams._hub.crew
    return "0 streams out, 0 in" in repr(cell.pushing) and crew._idle == len(crew._threads) and not cell.downloads.transactions


@pytest.mark.row("X5", "X6", "T11")
@pytest.mark.parametrize("misfortune", MISFORTUNES, ids=lambda each: each.name.replace(" ", "-"))
def test_it_ends_at_both_ends_by_name_and_nothing_of_it_is_left(trees: Trees, misfortune: Misfortune) -> None:
    options = Options(streams=StreamOptions(lost_timeout_s=1.0))
    server, site = trees.grow("server", "site-1", options=options)
    what, signal, may_go_on, begun = misfortune.name, Signal(), threading.Event(), threading.Event()
    unlucky = Unlucky(what, may_go_on, begun)
    if what != "nobody":
        unlucky.register(server, consumed_cb=unlucky.consumed)
    future = site.streams.stream_no_wait("metrics", "round", {}, ["server"], Clumsy(what, signal), abort=signal)
    if "closes" in what:
        assert begun.wait(PATIENCE_S)
        assert (site if what == "sender closes" else server).close() == []
    ended = guarded(lambda: future.result(PATIENCE_S))
    if isinstance(ended, Raised):
        assert isinstance(ended.error, misfortune.sender)
    elif what == "abort":
        assert str(ended[0]) == "abort_run"
    elif what == "verdict":
        assert ended[1] is False
    else:
        assert isinstance(ended[1]["server"], misfortune.sender)
    if "blocks" in what:
        eventually(lambda: " 0 in" in repr(server.pushing), what="the news that the sender has given up")
    may_go_on.set()
    if unlucky.happened[:1] == ["get"] and what != "get":
        eventually(lambda: unlucky.happened[-1] == "return")
        assert unlucky.happened[-3:] == ["finalize", "done", "return"]
        error = unlucky.contexts[0][KEY.ERROR]
        assert error is None if misfortune.receiver is None else isinstance(error, misfortune.receiver)
    for cell in (server, site):
        if not ("closes" in what and cell is (site if what == "sender closes" else server)):
            eventually(lambda: is_clean(cell), what=f"{cell.fqcn} to be rid of it")
