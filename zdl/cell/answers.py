"""Answers: what the targets of a broadcast said, as they come or all in the end; and notices that did not arrive.

::

    answers = cell.broadcast(["site-1", "site-2"], "task", "train", body)
    answers["site-1"]                           waits for that one
    for name, answer in answers.items(): …      waits for all, in the order of the targets
    for answer in answers.as_completed(): …     each as it comes, while others are still out

The loop only notes what came. What a reply lends is pulled, and the filters are passed, by the thread that looks; who
does not look, but is told (an event loop), has that done on the handler pool.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from zdl.cell.handlers import Owed
from zdl.cell.lending import NOTHING
from zdl.cell.messages import Answer
from zdl.cell.waiting import LOOK_S, Lead
from zdl.errors import Closed, ZdlError
from zdl.protocol.messages import Reply

_LOG = logging.getLogger("zdl.cell")
Settlement = tuple[Reply | None, ZdlError | None]
Undelivered = Callable[[str, ZdlError], object]
Job = Callable[[], None]


class Answers(Mapping[str, Answer]):
    """An `Answer` for every target of a broadcast.

    Looking waits: for one target, ``answers[target]``; for all, whatever goes over the values. What nobody looks at runs
    to its end by itself.

    Threads: `settle` and `present` from one thread at a time, the rest from any thread.

    Args:
        fqcn: the cell that asks, for errors.
        targets: whom, each once.
        lead: of the lane that settles it.
        is_alive: whether somebody is there to settle what is missing.
        finish: makes the answer of what came for a target; called once per target, by the thread that looks.

    Attributes:
        lent: what the requests have lent.
    """

    def __init__(self, fqcn: str, targets: Sequence[str], lead: Lead, is_alive: Callable[[], bool], *,
                 finish: Callable[[str, Settlement], Answer]) -> None:
        self._fqcn = fqcn
        self._targets = dict.fromkeys(targets)
        self.lent = NOTHING
        self._finish = finish
        self._lead = lead
        self._is_alive = is_alive
        self._changed = threading.Condition()  # guards all below
        self._settled: dict[str, Settlement] = {}
        self._order: list[str] = []
        self._taken: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self._cancels: dict[str, Callable[[str], None]] = {}
        self._ended: Callable[[Mapping[str, Settlement]], None] = lambda settled: None
        self._hand: Callable[[str], None] = lambda target: None

    def __repr__(self) -> str:
        return f"<Answers of {len(self._settled)} of {len(self._targets)} targets>"

    # --- reading --------------------------------------------------------------------------------

    def __getitem__(self, target: str) -> Answer:
        if target not in self._targets:
            raise KeyError(target)
        self._wait(lambda: target in self._settled)
        return self._answer(target)

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def as_completed(self) -> Iterator[Answer]:
        """The answers in the order in which they come, each target once; ends with the last one."""
        for number in range(len(self._targets)):
            self._wait(lambda: len(self._order) > number)
            yield self._answer(self._order[number])

    def cancel(self, why: str = "no longer wanted") -> None:
        """Stop waiting for those that are still out: they end with `Cancelled`, and the callees are told."""
        with self._changed:
            cancels = [cancel for target, cancel in self._cancels.items() if target not in self._settled]
        for cancel in cancels:
            cancel(why)

    def on_answer(self, tell: Callable[[Answer], object], *, is_slow: Callable[[Settlement], bool],
                  submit: Callable[[Job], object]) -> None:
        """Have `tell` called once with the answer of each target, as they come, by the thread that settles or makes it.

        Args:
            tell: must not block.
            is_slow: whether making an answer of this may block; then it is made on the pool.
            submit: has a job run there.
        """
        def hand(target: str) -> None:
            """It is settled."""
            if target in self._answers or not is_slow(self._settled[target]):
                tell(self._answer(target))
                return

            def made() -> None:
                """On the pool."""
                tell(self._answer(target))

            def failed(error: ZdlError) -> None:
                """It cannot be made."""
                answer = Answer(target, None, error)
                with self._changed:
                    self._taken.add(target)
                    self._answers.setdefault(target, answer)
                tell(answer)

            try:
                submit(Owed(made, failed))
            except ZdlError as error:
                failed(error)

        with self._changed:
            self._hand = hand
            settled = list(self._order)
        for target in settled:
            hand(target)

    # --- for who asks ---------------------------------------------------------------------------

    def began(self, target: str, cancel: Callable[[str], None]) -> None:
        """A request is on its way; `cancel` ends it."""
        with self._changed:
            self._cancels[target] = cancel

    def when_ended(self, ended: Callable[[Mapping[str, Settlement]], None]) -> None:
        """Call it with what came for each target when the last one is settled, on the thread that settles that."""
        with self._changed:
            is_over = len(self._settled) == len(self._targets)
            self._ended = ended
        if is_over:
            ended(self._settled)

    def settle(self, target: str, reply: Reply | None, error: ZdlError | None) -> None:
        """What came for a target; only the first counts."""
        with self._changed:
            if target in self._settled:
                return
            self._settled[target] = (reply, error)
            self._order.append(target)
            self._cancels.pop(target, None)
            is_over = len(self._settled) == len(self._targets)
            ended, hand = self._ended, self._hand
            self._changed.notify_all()
        hand(target)
        if is_over:
            ended(self._settled)

    def preset(self, answer: Answer) -> None:
        """The answer of a target that was not asked."""
        with self._changed:
            self._answers[answer.target] = answer
            self._taken.add(answer.target)
        self.settle(answer.target, None, answer.error)

    # --- inside ---------------------------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Poll until it holds, if nobody else does; sleep otherwise."""
        def sleep(slice_s: float) -> bool:
            """Until it holds, or the time is over."""
            with self._changed:
                return self._changed.wait_for(condition, slice_s)

        while not condition() and not self._lead.take(condition) and not self._lead.sleep_on(sleep, LOOK_S):
            if not self._is_alive():
                for target in self._targets:
                    self.settle(target, None, Closed(fqcn=self._fqcn))

    def _answer(self, target: str) -> Answer:
        """The answer of a target that is settled, made by one thread; others wait for that one."""
        with self._changed:
            is_mine = target not in self._taken
            self._taken.add(target)
            if not is_mine:
                self._changed.wait_for(lambda: target in self._answers or target not in self._taken)
                if target in self._answers:
                    return self._answers[target]
                self._taken.add(target)  # who made it was interrupted
            settlement = self._settled[target]
        answer: Answer | None = None
        try:
            answer = self._finish(target, settlement)
        finally:
            with self._changed:
                if answer is None:
                    self._taken.discard(target)
                else:
                    self._answers[target] = answer
                self._changed.notify_all()
        return answer


class Notices:
    """What became of one notice to one or many targets.

    That a notice arrived is never known; that it did not, mostly: at once where this cell has no way, later where a cell
    on the way could not go on or the target has no handler for it.

    Threads: all methods from any thread; `handed` and `failed` are called on the loop.

    Args:
        targets: to whom.
        tell: calls the user's function about a failure, on the handler pool; None when there is none.
        is_optional: a failure is expected, and logged for debugging only.

    Attributes:
        lent: what the notice has lent.
    """

    def __init__(self, targets: Sequence[str], tell: Undelivered | None, *, is_optional: bool = False) -> None:
        self._targets = tuple(targets)
        self._tell = tell
        self._is_optional = is_optional
        self.lent = NOTHING
        self._changed = threading.Condition()  # guards the two below
        self._missing = set(targets)
        self._errors: dict[str, ZdlError] = {}
        self._all_handed: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return f"<Notices to {len(self._targets)} targets, {len(self._errors)} failed>"

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def errors(self) -> dict[str, ZdlError]:
        """Why it did not reach these targets, as far as is known now."""
        with self._changed:
            return dict(self._errors)

    def wait_handed(self, timeout_s: float | None = None) -> dict[str, ZdlError]:
        """Wait until it has left for each target, or could not; then as `errors`.

        Not for an inline handler, which would wait for its own thread.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._missing, timeout_s)
            return dict(self._errors)

    def when_handed(self, told: Callable[[], object]) -> None:
        """Call it when it has left for each target, or could not; now, if it has. It must not block, and may be called twice."""
        with self._changed:
            self._all_handed = told
            is_over = not self._missing
        if is_over:
            told()

    # --- for who sends --------------------------------------------------------------------------

    def handed(self, target: str) -> None:
        """It has left for this target, or failed."""
        with self._changed:
            self._missing.discard(target)
            is_over, told = not self._missing, self._all_handed
            self._changed.notify_all()
        if is_over:
            told()

    def failed(self, target: str, error: ZdlError) -> None:
        """It did not reach this target; the first reason counts."""
        with self._changed:
            is_first = target not in self._errors
            if is_first:
                self._errors[target] = error
        if not is_first:
            return
        _LOG.log(logging.DEBUG if self._is_optional else logging.WARNING, "! a notice to %s: %s", target, error)
        if self._tell is not None:
            self._tell(target, error)
