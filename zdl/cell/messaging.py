"""Messaging: what the users of a cell send: requests, to one or many, notices, and what of these belongs together.

A cell is this, and more: where it listens, whom it dials, and what it answers are in `zdl.cell.cell`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zdl.cell.answers import Answers, Notices, Undelivered
from zdl.cell.calling import Caller, check_headers
from zdl.cell.codes import Replies
from zdl.cell.filtering import Asks, Spreads
from zdl.cell.filters import Filters
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, CallFuture, OnProgress, Sending
from zdl.cell.lending import Lending, Lent
from zdl.cell.life import Life
from zdl.cell.messages import Reply
from zdl.cell.service import Resolving
from zdl.cell.signal import Signal
from zdl.cell.spreading import bodies_of
from zdl.cell.workflow import Workflow
from zdl.cell.workflows import Workflows
from zdl.fqcn import parse
from zdl.options import Options


class Messaging:
    """The sending side of a cell, as its users have it.

    Threads: all methods from any thread.

    Args:
        fqcn: the cell.
        options: its limits and times.

    Attributes:
        filters: users' code that its messages pass on their way out and in, and that observes what it passes on.

    Raises:
        FqcnError: the name is not one.
    """

    def __init__(self, fqcn: str, options: Options) -> None:
        self._fqcn = parse(fqcn)
        self._options = options
        self._life = Life(self._fqcn)
        self.filters = Filters(self._fqcn, check_headers)

    @property
    def fqcn(self) -> str:
        """Its name."""
        return self._fqcn

    @property
    def options(self) -> Options:
        """Its options."""
        return self._options

    @property
    def replies(self) -> Replies:
        """The same calls for those who want a return code whatever comes, and no exception."""
        return Replies(self._asking, self._spreading)

    @property
    def workflows(self) -> Workflows:
        """Those that it has made or is part of, for services."""
        return self._calling().workflows

    def request(self, target: str, channel: str, topic: str, body: object = None, *, timeout_s: float | None = DEFAULT_S,
                headers: Mapping[str, object] = NO_HEADERS, abort: Signal | None = None, resolve: Resolving = True,
                receivers: Sequence[str] | int = 1, trace: bool = False, optional: bool = False,
                on_progress: OnProgress | None = None, lending: Lending | None = None, workflow: Workflow | None = None) -> Reply:
        """Send a request and wait for its reply.

        Args:
            target: FQCN of the cell that shall answer; may be this one.
            channel: first half of its handler's name.
            topic: second half.
            body: containers, text, bytes, numbers, None, datetimes, numpy arrays, refs, and what is registered in `types`.
            timeout_s: the one bound for all of it; by default ``options.calls.timeout_s``; None waits for ever. It
                begins anew while bytes come that the request or its reply lends, and when the handler reports progress.
            headers: plain values by name, for the handler.
            abort: triggering it ends the wait with `Cancelled`; the callee is told.
            resolve: pull the refs in the reply before returning; ``"disk"``: to the disk.
            receivers: who pulls the large arrays in the body: names, or how many cells. When all have it, it is lent no more.
            trace: have the cells on the way write down their names; the reply's `route` has them.
            optional: a failure is expected; it is raised all the same, and logged for debugging only.
            on_progress: is told what the handler reports by ``request.progress(facts)``, on the handler pool, in order.
            lending: how this body is packed and lent, and who hears when all have it. What was lent is in the reply's ``lent``.
            workflow: what it belongs to; see `workflow`.

        Raises:
            CannotPack, TooLarge: the body cannot travel; nothing was sent.
            NoRoute, PeerLost, Busy, Refused: it could not be delivered, or the way broke.
            TimedOut, Cancelled, Closed: nobody waits any more.
            RemoteError: the handler raised.
        """
        sending = Sending(timeout_s, headers, abort, resolve, receivers, trace, optional, on_progress, lending, workflow)
        return self._asking().request(target, channel, topic, body, sending)

    def request_future(self, target: str, channel: str, topic: str, body: object = None, *,
                       timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                       abort: Signal | None = None, resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                       trace: bool = False, optional: bool = False, on_progress: OnProgress | None = None,
                       lending: Lending | None = None, workflow: Workflow | None = None) -> CallFuture:
        """Send a request; the future has the reply or the error, and what was lent. Cancelling it cancels the call.

        Threads: callbacks that are added to the future run on the handler pool, so they may block.
        """
        caller = self._asking()
        future = caller.future()
        sending = Sending(timeout_s, headers, abort, resolve, receivers, trace, optional, on_progress, lending, workflow)
        caller.request_future(target, channel, topic, body, sending, future=future)
        return future

    def notice(self, targets: str | Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
               headers: Mapping[str, object] = NO_HEADERS, receivers: Sequence[str] | int = 1, optional: bool = False,
               undelivered: Undelivered | None = None, lending: Lending | None = None, workflow: Workflow | None = None) -> Notices:
        """Send a message that is not answered, to one or many cells. It leaves soon; that it arrives is not known.

        Args:
            targets: one name, names that all get `body`, or a mapping of names to bodies.
            undelivered: called on the handler pool with target and error, where it failed; see `Notices`.
        """
        sending = Sending(headers=headers, receivers=receivers, optional=optional, lending=lending, workflow=workflow)
        return self._spreading().notice(bodies_of(targets, body), channel, topic, sending, undelivered)

    def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
                  timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                  abort: Signal | None = None, resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                  optional: bool = False, on_progress: OnProgress | None = None, lending: Lending | None = None,
                  workflow: Workflow | None = None) -> Answers:
        """One request to each of many targets; who looks at the answers waits for them.

        Args:
            targets: names that all get `body`, packed once; or a mapping of names to bodies.

        Returns:
            An `Answer` for every target, its reply or its error: by target, or ``as_completed()``.
        """
        sending = Sending(timeout_s, headers, abort, resolve, receivers, optional=optional, on_progress=on_progress,
                          lending=lending, workflow=workflow)
        return self._spreading().broadcast(bodies_of(targets, body), channel, topic, sending)

    def workflow(self, ttl_s: float) -> Workflow:
        """Messages that belong together, all of them over in so many seconds: see `zdl.cell.workflow`. Leaving it ends it.

        Raises:
            OptionError: it cannot last so long.
            Busy: ``calls.workflows_max`` are open.
        """
        return self._calling().workflows.make(ttl_s)

    def lent(self) -> Lent:
        """What messages of this cell have lent, requests, notices and replies, and what has not ended yet.

        Who exits while something is lent takes it away from who still wants it: ``cell.lent().wait(timeout_s)`` before.
        """
        return self._calling().packing.lent()

    # --- inside ---------------------------------------------------------------------------------

    def _calling(self) -> Caller:
        return self._life.calling()

    def _asking(self) -> Asks:
        caller = self._life.caller or self._calling()
        return self._life.behind(self._options, self.filters) if self.filters.is_used else caller

    def _spreading(self) -> Spreads:
        self._calling()
        return self._life.behind(self._options, self.filters) if self.filters.is_used else self._life.spreader(self._options)
