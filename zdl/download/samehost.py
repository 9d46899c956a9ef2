"""Same host: what an origin on this machine has in memory or in a file it hands over, instead of sending it.

::

    receiver                                       origin
       │── request zdl/same-host: which bytes ─────▶│  `zdl.download.sharing`: may it have them? the same machine?
       │◀── reply: where, a ticket, what is there ──│
       │── connects to the socket of segments ─────▶│  `zdl.transport.handover`
       │◀── descriptors: of memory, or of a file ───│

It is tried, not configured: whatever says no on that way is a reason to have the bytes sent instead, which is kept in the
transfer. A reason that will be the same next time (another machine) is believed for a while, for memory and files alike.
That both run on one machine is shown by the descriptors, and by nothing else: what they say of themselves only saves the attempt.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from zdl.cell.cell import BareCell
from zdl.cell.messages import Reply
from zdl.download.patience import Patience
from zdl.download.puller import CHANNEL, Transfer
from zdl.errors import Cancelled, Closed, TimedOut, ZdlError
from zdl.objects.manifest import Range
from zdl.protocol.audiences import ABOUT_TO
from zdl.protocol.effects import Post
from zdl.protocol.messages import Drop
from zdl.refs import Source

SAME_HOST_TOPIC = "same-host"
# A reason that lasts is believed for so long.
WHY_KEPT_S = 30.0
WHY_MAX = 4096
# Who is on this host answers at once, and tells ten times a second that he is at it; for who does not it is not worth waiting.
ANSWER_S = 2.0
# Somebody who has just said that he is there answers at once.
TAKE_S = 2.0


class NotHere(Exception):
    """Why it cannot be had on this machine; `is_lasting`: and will not be the next time."""

    def __init__(self, why: str, *, is_lasting: bool) -> None:
        super().__init__(why)
        self.is_lasting = is_lasting


class SameHost:
    """What a cell knows of the origins on its machine.

    Threads: all methods from any thread but the loops'.

    Args:
        cell: it asks origins.
    """

    def __init__(self, cell: BareCell) -> None:
        self._cell = cell
        self._lock = threading.Lock()  # guards the one below
        self._whys: dict[str, tuple[float, str]] = {}

    def why_not(self, source: Source, bytes_total: int, patience: Patience) -> str | None:
        """Why an origin is not even asked for so many bytes; empty where nobody would expect it; None: it is."""
        options = self._cell.options.pulls
        if not options.same_host:
            return "the option same_host of this cell's pulls is off"
        if source.origin == self._cell.fqcn or bytes_total < options.same_host_bytes_min:
            return ""
        if options.verify not in ("auto", "none"):
            return f"the option verify={options.verify} of this cell's pulls asks for a digest of what is sent"
        pace = patience.limits.pace
        if math.isfinite(options.bwlimit_bytes_per_s) or (pace is not None and math.isfinite(pace.bwlimit_bytes_per_s)):
            return "it has a limit of bandwidth, which holds for what is sent"
        with self._lock:
            until, why = self._whys.get(source.origin, (0.0, ""))
        return why if time.monotonic() < until else None

    def ask(self, source: Source, question: Mapping[str, object], patience: Patience, transfer: Transfer, *,
            is_all: bool = True) -> Mapping[str, Any]:
        """What an origin answers.

        Args:
            source: the offer.
            question: more than which offer it is; see `zdl.download.sharing`.
            patience: of who waits for it.
            transfer: where it is noted.
            is_all: whether the bytes are here when it has answered.

        Raises:
            NotHere: it says no.
            TimedOut, Cancelled, Closed: nobody waits any more.
        """
        def heard(facts: Mapping[str, object]) -> None:
            """The origin is at it."""
            done = facts.get("done")
            transfer.moved_at = time.monotonic()
            if is_all and isinstance(done, int):
                transfer.bytes_done = min(max(done, 0), transfer.bytes_total)
            patience.moved(transfer.bytes_done)

        asked = self._cell.request_future(
            source.origin, CHANNEL, SAME_HOST_TOPIC,
            {"offer": source.offer_id, "secret": source.secret, "host": self._cell.lane.segments.host, **question},
            timeout_s=min(ANSWER_S, self._cell.options.pulls.lost_timeout_s), abort=patience.abort, resolve=False, optional=True,
            on_progress=heard)
        reply: Reply | None = None
        while reply is None:
            try:
                reply = asked.result(patience.left_s())
            except (Cancelled, Closed):
                raise
            except ZdlError as error:
                raise NotHere(f"{source.origin} did not say where it is: {error}",
                              is_lasting=isinstance(error, TimedOut)) from error
            except TimeoutError:
                asked.cancel()
                patience.check()
        told = reply.body
        if not isinstance(told, dict):
            raise NotHere(f"{source.origin} did not say where it is, but {str(told):.80}", is_lasting=True)
        if "why" in told:
            raise NotHere(str(told["why"]), is_lasting=told.get("is_lasting") is True)
        return told

    def take(self, source: Source, told: Mapping[str, Any], count: int) -> list[int]:
        """The descriptors that an origin has promised; the caller closes them.

        Raises:
            NotHere: nobody hands them over.
        """
        try:
            return self._cell.lane.segments.fetch(
                str(told["address"]), bytes(told["ticket"]), source.secret, count=count, timeout_s=TAKE_S)
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise NotHere(f"what {source.origin} has cannot be had here: {error}",
                          is_lasting=isinstance(error, ConnectionError)) from error

    def noted(self, origin: str, no: NotHere) -> str:
        """The reason, in words; one that lasts is known from now on."""
        if no.is_lasting:
            with self._lock:
                self._whys[origin] = time.monotonic() + WHY_KEPT_S, str(no)
                while len(self._whys) > WHY_MAX:
                    del self._whys[next(iter(self._whys))]
        return str(no)

    def given_up(self, source: Source) -> None:
        """Nobody waits any more for what is being handed over: the origin hears of it as at the end of a pull."""
        drop = Post(Drop(self._cell.fqcn, source.origin, ABOUT_TO, source.offer_id, source.secret, Cancelled.code))
        with suppress(Closed):  # then it hears that this cell is
            self._cell.lane.lent.change(lambda offers, now: [drop])


def told_ranges(ranges: Sequence[Range]) -> list[list[int]]:
    """As they travel in a question."""
    return [list(each) for each in ranges]
