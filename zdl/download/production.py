"""Production: one object that is lent piece by piece: whose turn it is, what was made, and who waits for it.

For each download of a receiver there is a **sequence**, in which the answers are made strictly in order, one at a time::

    ask(number) ──▶ made already: told at once
                ──▶ is to be made next: a thread calls `produce` until the answer is full, and tells whoever asked

An answer is full when it has enough bytes or pieces, or took long enough: small pieces travel together, a slow producer does
not keep what it has made. It is kept until the receiver says that it has consumed it, so that who asks twice is told the
same. As long as the producer's own states are gone on from, one answer more is made ahead of the asking.

A `CacheableObject` makes the same pieces for all: an answer that several receivers want at once is made, packed, lent and
hashed once, and lives until all of them have consumed it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from zdl.download.cacheable import CacheableObject
from zdl.download.downloadable import Downloadable, State
from zdl.download.making import PIECES_MAX, Answer, Maker
from zdl.download.pieces import Question
from zdl.errors import Closed, LeaseEnded, OptionError, ZdlError

# Answers made beyond the last that was asked for.
AHEAD = 1
# Answers that one receiver may wait for at one time.
ASKED_MAX = 8
# Downloads of one receiver that are remembered at one time; the oldest is forgotten.
SERVINGS_MAX = 8
# Downloads that are over and remembered, so that a question of them that comes late is known as such.
OVER_MAX = 1024
# Threads that make answers of one object at one time: one that hangs leaves threads for the others.
THREADS_PER_OBJECT = 16

# Has a job run on a thread for users' code; the words say what it does.
Submit = Callable[[str, Callable[[], None]], None]
# Is told that a receiver has consumed so many bytes, in so many pieces.
Consumed = Callable[[str, int, int], None]


# Gets the answer, or why there is none.
Tell = Callable[[Answer | ZdlError], None]


@dataclass(slots=True, eq=False)
class _Shared:
    """An answer for several servings."""

    key: bytes
    made: Future[Answer] = field(default_factory=Future)
    users: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Serving:
    """One download of one receiver."""

    requester: str
    token: bytes
    is_chained: bool
    next: int = 0
    consumed: int = 0
    asked: int = 0
    state: State = field(default_factory=dict)
    made: dict[int, tuple[Answer, _Shared | None]] = field(default_factory=dict)
    waiting: dict[int, list[Tell]] = field(default_factory=dict)
    own_states: dict[int, State] = field(default_factory=dict)
    is_running: bool = False
    is_at_end: bool = False
    is_over: bool = False

    def wants(self) -> bool:
        """Whether an answer is to be made now."""
        if self.is_over or self.is_at_end or self.is_running:
            return False
        return self.next in self.waiting or (self.is_chained and self.next < self.asked + AHEAD)


class Production:
    """One object that is lent piece by piece.

    Threads: all methods from any thread; `ask`, `forget` and `close` call what they are given, outside any lock.

    Args:
        downloadable: the user's.
        label: how errors and logs name it.
        origin: this cell.
        maker: calls the user's code.
        submit: has a job run on a thread for users' code.
        consumed: is told what receivers have consumed, and with 0 that one has begun.
    """

    def __init__(self, downloadable: Downloadable, label: str, origin: str, *, maker: Maker, submit: Submit,
                 consumed: Consumed) -> None:
        self.downloadable = downloadable
        self.label = label
        self.origin = origin
        self._maker = maker
        self._submit = submit
        self._told = consumed
        self._nothing = maker.nothing()
        self._changed = threading.Condition()  # guards all below, and the servings
        self._servings: dict[tuple[str, bytes], _Serving] = {}
        self._begun: set[str] = set()
        self._barred: set[str] = set()
        self._over: dict[tuple[str, bytes], None] = {}
        self._shared: dict[bytes, _Shared] = {}
        self._ready: deque[_Serving] = deque()
        self._threads = 0
        self._starting = 0  # of these, those that have not taken anything yet
        self._why_closed: ZdlError | None = None

    def __repr__(self) -> str:
        return f"<Production of {self.label}: {len(self._servings)} servings, {self._threads} threads>"

    def ask(self, requester: str, question: Question, tell: Tell) -> None:
        """A receiver asks: `tell` is called once, now or when the answer was made."""
        then: list[Callable[[], None]] = []
        with self._changed:
            known = self._ask(requester, question, tell, then)
        if known is not None:
            tell(known)
        self._go_on(then)

    def has_begun(self, requester: str) -> bool:
        """Whether this receiver has asked for anything."""
        with self._changed:
            return requester in self._begun

    def forget(self, requester: str, *, is_barred: bool) -> None:
        """A receiver is gone: what it was served is not needed any more, and nothing is kept for it.

        One that has all of it, or has given up, says so itself for each of its downloads; others of them may go on.

        Args:
            requester: the receiver.
            is_barred: it gets nothing any more.
        """
        then: list[Callable[[], None]] = []
        with self._changed:
            if is_barred:
                self._barred.add(requester)
            for serving in [each for each in self._servings.values() if each.requester == requester]:
                self._drop(serving, then)
        if isinstance(self.downloadable, CacheableObject):
            self.downloadable.without(requester)
        self._go_on(then)

    def stop(self, why: ZdlError) -> None:
        """Nothing more is begun. Returns at once, and calls nobody; `close` tells those who wait."""
        with self._changed:
            self._why_closed = self._why_closed or why
            self._ready.clear()

    def close(self, why: ZdlError) -> None:
        """Nothing more is made; who waits is told why."""
        then: list[Callable[[], None]] = []
        self.stop(why)
        with self._changed:
            for serving in list(self._servings.values()):
                self._drop(serving, then, why)
        self._go_on(then)

    def wait_drained(self, timeout_s: float | None) -> bool:
        """Wait until no `produce` is running, after `close`. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._threads == 0, timeout_s)

    # --- whose turn it is -----------------------------------------------------------------------

    def _ask(self, requester: str, question: Question, tell: Tell, then: list[Callable[[], None]]) -> Answer | ZdlError | None:
        """Under the lock: the answer, or why there is none, as far as known."""
        if self._why_closed is not None:
            return self._why_closed
        if requester in self._barred:
            return LeaseEnded(ref=self.label, origin=self.origin, how="expired")
        key = requester, question.token
        serving = self._servings.get(key)
        if serving is None:
            # Several questions are on their way at once, and come in any order; but none that begins in the middle.
            if question.consumed or question.number >= ASKED_MAX or question.is_over or key in self._over:
                self._is_over(key)
                return LeaseEnded(ref=self.label, origin=self.origin, how="forgotten")
            serving = self._begin(requester, question, then)
        if question.consumed > serving.next:
            return OptionError(name="consumed", value=str(question.consumed), allowed=f"at most {serving.next}, all there are")
        self._consume(serving, question.consumed, then)
        if question.is_over:
            self._drop(serving, then)
            return self._nothing
        made = serving.made.get(question.number)
        if made is not None:
            return made[0]
        if serving.is_at_end and question.number >= serving.next:
            return self._nothing
        if not serving.next <= question.number < serving.next + ASKED_MAX or question.is_chained != serving.is_chained:
            return OptionError(name="number", value=str(question.number),
                               allowed=f"the next {ASKED_MAX} from {serving.next}, all in one way")
        serving.asked = max(serving.asked, question.number + 1)
        if question.state is not None:
            serving.own_states[question.number] = question.state
        serving.waiting.setdefault(question.number, []).append(tell)
        self._wake(serving)
        return None

    def _begin(self, requester: str, question: Question, then: list[Callable[[], None]]) -> _Serving:
        """Under the lock."""
        if requester not in self._begun:
            self._begun.add(requester)
            then.append(lambda: self._told(requester, 0, 0))
        own = [each for each in self._servings.values() if each.requester == requester]
        if len(own) >= SERVINGS_MAX:
            self._drop(own[0], then)
        serving = self._servings[requester, question.token] = _Serving(requester, question.token, question.is_chained)
        return serving

    def _consume(self, serving: _Serving, count: int, then: list[Callable[[], None]]) -> None:
        """Under the lock: the receiver has consumed so many answers."""
        for number in range(serving.consumed, count):
            answer, shared = serving.made.pop(number)
            self._leave(serving, answer, shared, then)
            if answer.states:
                then.append(lambda answer=answer: self._has_consumed(serving.requester, answer))  # type: ignore[misc]
        serving.consumed = max(serving.consumed, count)

    def _has_consumed(self, requester: str, answer: Answer) -> None:
        if isinstance(self.downloadable, CacheableObject):
            for state in answer.states:
                self.downloadable.consumed(state, requester)
        self._told(requester, answer.nbytes, len(answer.states))

    def _drop(self, serving: _Serving, then: list[Callable[[], None]], why: ZdlError | None = None) -> None:
        """Under the lock: it is over."""
        serving.is_over = True
        key = serving.requester, serving.token
        self._servings.pop(key, None)
        self._is_over(key)
        told = why or LeaseEnded(ref=self.label, origin=self.origin, how="forgotten")
        then += [lambda tell=tell: tell(told) for tells in serving.waiting.values() for tell in tells]  # type: ignore[misc]
        serving.waiting.clear()
        for answer, shared in serving.made.values():
            self._leave(serving, answer, shared, then)
        serving.made.clear()

    def _is_over(self, key: tuple[str, bytes]) -> None:
        """Under the lock: questions of this download that are still on their way are not a beginning."""
        self._over[key] = None
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]

    def _leave(self, serving: _Serving, answer: Answer, shared: _Shared | None, then: list[Callable[[], None]]) -> None:
        """Under the lock: one serving does not need this answer any more."""
        if shared is not None:
            shared.users.discard(id(serving))
            if shared.users:
                return
            if self._shared.get(shared.key) is shared:
                del self._shared[shared.key]
        if answer.end is not None:
            then.append(answer.end)

    def _wake(self, serving: _Serving) -> None:
        """Under the lock."""
        if serving.wants() and self._why_closed is None:
            serving.is_running = True
            self._ready.append(serving)

    def _go_on(self, then: Sequence[Callable[[], None]]) -> None:
        """Outside the lock: what was left to do, and as many threads as there is work for."""
        for each in then:
            each()
        with self._changed:
            count = max(0, min(len(self._ready) - self._starting, THREADS_PER_OBJECT - self._threads))
            self._threads += count
            self._starting += count
        for _ in range(count):
            try:
                self._submit(f"production of {self.label}", self._work)
            except Closed as error:
                self._thread_ends()
                self.close(error)

    def _thread_ends(self) -> None:
        """One that never began."""
        with self._changed:
            self._threads -= 1
            self._starting -= 1
            self._changed.notify_all()

    # --- making ---------------------------------------------------------------------------------

    def _work(self) -> None:
        with self._changed:
            self._starting -= 1
        while True:
            with self._changed:
                while self._ready and self._ready[0].is_over:
                    self._ready.popleft()
                if not self._ready:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                serving = self._ready.popleft()
                number = serving.next
                state = serving.state if serving.is_chained else serving.own_states.pop(number)
            if isinstance(self.downloadable, CacheableObject) and serving.is_chained:
                self._share(serving, state)
            else:
                self._made(serving, self._produced(serving, state), None)

    def _share(self, serving: _Serving, state: State) -> None:
        """The answer that others want too; or wait, without a thread, until it was made."""
        key = self._maker.key_of(state)
        with self._changed:
            shared = self._shared.get(key)
            is_mine = shared is None
            if shared is None:
                shared = self._shared[key] = _Shared(key)
            shared.users.add(id(serving))
        found = shared
        if is_mine:
            answer = self._produced(serving, state)
            if not answer.is_good:  # who asks later shall have a try of his own
                with self._changed:
                    if self._shared.get(key) is shared:
                        del self._shared[key]
            shared.made.set_result(answer)
        found.made.add_done_callback(lambda made: self._made(serving, made.result(), found))

    def _made(self, serving: _Serving, answer: Answer, shared: _Shared | None) -> None:
        """The next answer of a serving is there: whoever waits for it is told."""
        then: list[Callable[[], None]] = []
        with self._changed:
            serving.is_running = False
            if serving.is_over:
                self._leave(serving, answer, shared, then)
            else:
                tells = serving.waiting.pop(serving.next, [])
                then += [lambda tell=tell: tell(answer) for tell in tells]  # type: ignore[misc]
                serving.made[serving.next] = answer, shared
                serving.next += 1
                serving.state, serving.is_at_end = answer.after, answer.is_last
                if serving.is_at_end:
                    then += [lambda tell=tell: tell(self._nothing)  # type: ignore[misc]
                             for tells in serving.waiting.values() for tell in tells]
                    serving.waiting.clear()
                self._wake(serving)
        self._go_on(then)

    def _produced(self, serving: _Serving, state: State) -> Answer:
        """Call the user's code until the answer is full."""
        pieces_max = PIECES_MAX if serving.is_chained else 1
        try:
            return self._maker.make(serving.requester, state, pieces_max, lambda: self._why_closed is not None)
        except Closed:
            self.close(LeaseEnded(ref=self.label, origin=self.origin, how="closed"))
            return self._nothing
