"""Workflow: messages that belong together, with a time after which all of them are over; and the end of that as an event.

::

    with cell.workflow(ttl_s=3600) as work:               # at its maker
        work.ended.on_trigger(clean_up)
        cell.request("site-1", "task", "train", model, workflow=work)

    def train(request):                                   # at every cell that its messages reach
        request.workflow.ended.on_trigger(clean_up_here)
        request.request("site-1.w0", …)                   # belongs to it too, by itself

A message of a workflow carries its id and how long it has left, in one header. Who handles such a message is part of the
workflow, as is what he asks on by ``request.request`` and ``request.forward``; ``workflow=`` names another one, and takes
what ``cell.request`` sends into it. So requests may be nested as deep as one likes: the id is the same everywhere, and the
time only grows less.

It ends when its maker says so, or its time is over, whichever comes first. Then ``ended`` is triggered, at each cell: by
its own clock, or because the cell that its messages came from tells so, along the way that the messages took. A cell in the
middle may end it too, for itself and for those below it on that way. Nothing more is sent in a workflow that has ended; what
is on its way goes on.

What a message of it lends is lent, unused, for as long as it has left, and at least for ``offers.lease_min_s``.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from zdl.cell.lending import Lent, Transaction
from zdl.cell.signal import Signal
from zdl.errors import Cancelled, DecodeError

# Carries it: the id, and how long it has left.
HEADER = "zdl-workflow"
ID_BYTES = 16
_MARK = struct.Struct(f"!{ID_BYTES}sd")
# Cells that are told of the end of one workflow; those beyond end it by their own clocks.
TOLD_MAX = 4096
DONE = "it is done"
LATE = "its time is over"


class Workflow:
    """Messages that belong together, and how long they are wanted. A context manager: leaving it ends it.

    Threads: all methods from any thread.

    Attributes:
        ended: is triggered once, when it is over at this cell, with the reason. Callbacks run in the thread that ends it, one
            of the cell's own where its time is over, and must not block for long; it may be given to any call as ``abort=``.
    """

    def __init__(self, number: bytes, deadline: float, ends: Callable[[Workflow, str], None]) -> None:
        self._id = number
        self._deadline = deadline
        self._ends = ends
        self.ended = Signal()
        self._why = ""
        self._told: dict[str, None] = {}  # changed by single operations, which need no lock, as the one below
        self._lent: dict[bytes, Transaction] = {}

    def __repr__(self) -> str:
        state = f"over: {self._why}" if self._why else f"{self.left_s():.3g} s left"
        return f"<Workflow {self.id[:8]}… {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end(DONE if error is None else f"its maker raised {type(error).__name__}")

    @property
    def id(self) -> str:
        """The same at all cells, in hex."""
        return self._id.hex()

    @property
    def lent(self) -> Lent:
        """What messages of this cell have lent in it, and what has not ended yet; ``work.lent.delete()`` lets go of it."""
        return Lent(list(self._lent.values()))

    def left_s(self) -> float:
        """How long it has left; 0 when it is over."""
        return 0.0 if self._why else max(0.0, self._deadline - time.monotonic())

    def end(self, why: str = DONE) -> None:
        """It is over, here and at all cells that its messages have reached through this one; they are told. Once is enough."""
        self._ends(self, why)

    # --- for the cell ---------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When its time is over, on this machine's monotonic clock."""
        return self._deadline

    def hurry(self, deadline: float) -> None:
        """Another message of it says that it has less time."""
        self._deadline = min(self._deadline, deadline)

    def carried(self, targets: Sequence[str]) -> dict[str, object]:
        """The header by which a message to these cells belongs to it; they are told of its end.

        Raises:
            Cancelled: it is over.
        """
        left_s = self.left_s()
        if not left_s:
            raise Cancelled(what=f"a message of the workflow {self.id[:8]}…", why=self._why or LATE)
        for target in targets:
            if len(self._told) < TOLD_MAX:
                self._told[target] = None
        return {HEADER: _MARK.pack(self._id, left_s)}

    def lends(self, transaction: Transaction) -> None:
        """A message of it has lent this."""
        self._lent[transaction.id] = transaction
        transaction.when_done(lambda: _done(self._lent.pop(transaction.id, None)))

    def stop(self, why: str) -> list[str]:
        """Nothing more is sent in it. Returns to whom something was."""
        self._why = why
        told, self._told = list(self._told), {}
        return told


def read_mark(value: object) -> tuple[bytes, float]:
    """The id and the time of a header, which others have written.

    Raises:
        DecodeError: it is none.
    """
    if not isinstance(value, bytes) or len(value) != _MARK.size:
        raise DecodeError(what=f"the header {HEADER} is not {_MARK.size} bytes")
    number, ttl_s = _MARK.unpack(value)
    if math.isnan(ttl_s):
        raise DecodeError(what=f"the header {HEADER} has no time")
    return number, ttl_s


def _done(transaction: Transaction | None) -> None:
    """What comes of taking it out does not matter."""
