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
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from zdl.cell.handlers import Raised, guarded
from zdl.download.cacheable import CacheableObject
from zdl.download.downloadable import Downloadable, ProduceRC, State
from zdl.download.pieces import Piece, Question
from zdl.download.sizes import bytes_of
from zdl.errors import Closed, LeaseEnded, OptionError, ZdlError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, Part, pack
from zdl.objects.typetable import TypeTable
from zdl.options import PackOptions
from zdl.refs import Source

# Pieces in one answer, and how long one is collected: a receiver on the same host asks anew in well under a millisecond.
PIECES_MAX = 256
COLLECT_S = 0.01
# Answers made beyond the last that was asked for.
AHEAD = 1
# Answers that one receiver may wait for at one time.
ASKED_MAX = 8
# Downloads of one receiver that are remembered at one time; the oldest is forgotten.
SERVINGS_MAX = 8
# Threads that make answers of one object at one time: one that hangs leaves threads for the others.
THREADS_PER_OBJECT = 16

# Lends the large leaves of an answer; returns what ends that, too.
Lend = Callable[[Manifest, Sequence[Lent]], tuple[Source, Callable[[], None]]]
# Has a job run on a thread for users' code; the words say what it does.
Submit = Callable[[str, Callable[[], None]], None]
# Is told that a receiver has consumed so many bytes, in so many pieces.
Consumed = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Some pieces, packed.

    Attributes:
        frames: the packed list of them.
        lent: the offer of their large leaves.
        states: those that came with pieces of data, in order.
        nbytes: of their data.
        after: the state to go on from.
        is_last: there are no more.
        is_good: it does not end with an error.
        end: ends the offer.
    """

    frames: tuple[Part, ...]
    lent: bytes | None = None
    states: tuple[State, ...] = ()
    nbytes: int = 0
    after: State = field(default_factory=dict)
    is_last: bool = False
    is_good: bool = True
    end: Callable[[], None] | None = None


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
        packing: how pieces are packed.
        bytes_max: an answer with so many bytes is full.
        lend: lends what is large.
        submit: has a job run on a thread for users' code.
        consumed: is told what receivers have consumed.
        types: what may travel in pieces.
    """

    def __init__(self, downloadable: Downloadable, label: str, origin: str, *, packing: PackOptions, bytes_max: int,
                 lend: Lend, submit: Submit, consumed: Consumed, types: TypeTable = TypeTable()) -> None:
        self.downloadable = downloadable
        self.label = label
        self.origin = origin
        self._packing = packing
        self._types = types
        self._bytes_max = bytes_max
        self._lend = lend
        self._submit = submit
        self._told = consumed
        self._nothing = Answer(pack([], options=packing).parts, is_last=True)
        self._changed = threading.Condition()  # guards all below, and the servings
        self._servings: dict[tuple[str, bytes], _Serving] = {}
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

    def forget(self, requester: str, *, is_finished: bool) -> None:
        """A receiver has all of it: what it was served to the end is forgotten; or none of it wants more."""
        then: list[Callable[[], None]] = []
        with self._changed:
            for serving in [each for each in self._servings.values() if each.requester == requester]:
                if is_finished and serving.is_at_end:
                    self._consume(serving, serving.next, then)
                if not is_finished or serving.is_at_end:
                    self._drop(serving, then)
        if not is_finished and isinstance(self.downloadable, CacheableObject):
            self.downloadable.without(requester)
        self._go_on(then)

    def close(self, why: ZdlError) -> None:
        """Nothing more is made; who waits is told why."""
        then: list[Callable[[], None]] = []
        with self._changed:
            self._why_closed = self._why_closed or why
            self._ready.clear()
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
        serving = self._servings.get((requester, question.token))
        if serving is None:
            if question.number or question.is_over:
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
        self._servings.pop((serving.requester, serving.token), None)
        told = why or LeaseEnded(ref=self.label, origin=self.origin, how="forgotten")
        then += [lambda tell=tell: tell(told) for tells in serving.waiting.values() for tell in tells]  # type: ignore[misc]
        serving.waiting.clear()
        for answer, shared in serving.made.values():
            self._leave(serving, answer, shared, then)
        serving.made.clear()

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
        if serving.wants():
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
                self._made(serving, self._produced(serving.requester, state, PIECES_MAX if serving.is_chained else 1), None)

    def _share(self, serving: _Serving, state: State) -> None:
        """The answer that others want too; or wait, without a thread, until it was made."""
        key = bytes(pack(state, options=self._packing).parts[0])
        with self._changed:
            shared = self._shared.get(key)
            is_mine = shared is None
            if shared is None:
                shared = self._shared[key] = _Shared(key)
            shared.users.add(id(serving))
        found = shared
        if is_mine:
            answer = self._produced(serving.requester, state, PIECES_MAX)
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

    def _produced(self, requester: str, state: State, pieces_max: int) -> Answer:
        """Call the user's code until the answer is full."""
        pieces: list[Piece] = []
        nbytes = 0
        until = time.monotonic() + COLLECT_S
        while True:
            piece = self._piece(requester, state)
            pieces.append(piece)
            code, data, state = piece
            if code != ProduceRC.OK:
                break
            nbytes += bytes_of(data)
            if len(pieces) >= pieces_max or nbytes >= self._bytes_max or time.monotonic() >= until:
                break
            if self._why_closed is not None:
                break
        return self._packed(pieces, nbytes)

    def _piece(self, requester: str, state: State) -> Piece:
        """One piece; what the user's code raises becomes an error piece."""
        made = guarded(lambda: _checked(self.downloadable.produce(dict(state), requester)))
        if isinstance(made, Raised):
            return ProduceRC.ERROR, f"{made.kind}: {made.text}", {}
        return made

    def _packed(self, pieces: Sequence[Piece], nbytes: int) -> Answer:
        ends: list[Callable[[], None]] = []

        def lend(manifest: Manifest, lent: Sequence[Lent]) -> Source:
            """The large leaves, once all else has succeeded."""
            source, end = self._lend(manifest, lent)
            ends.append(end)
            return source

        packing = self._packing
        is_large = nbytes > packing.beside_bytes_max
        if is_large:
            packing = replace(packing, beside_bytes_max=packing.inline_bytes_max)
        try:
            packed = pack([list(piece) for piece in pieces], options=packing, types=self._types,
                          lend=lend if is_large else None)
        except Closed:
            self.close(LeaseEnded(ref=self.label, origin=self.origin, how="closed"))
            return self._nothing
        except (ZdlError, RecursionError) as error:
            return self._packed([(ProduceRC.ERROR, str(error), {})], 0)
        code, _, after = pieces[-1]
        states = tuple(state for code, _, state in pieces if code == ProduceRC.OK)
        return Answer(packed.parts, packed.source.offer_id if packed.source else None, states, nbytes, after,
                      is_last=code != ProduceRC.OK, is_good=code != ProduceRC.ERROR, end=ends[0] if ends else None)


def _checked(made: object) -> Piece:
    """What a `produce` has returned, if it is what it should be."""
    if not isinstance(made, tuple) or len(made) != 3:
        raise TypeError(f"produce must return a code, data and a state, not {type(made).__name__}")
    code, data, state = made
    if code == ProduceRC.EOF:
        return ProduceRC.EOF, None, {}
    if code == ProduceRC.ERROR:
        return ProduceRC.ERROR, "it said so" if data is None else str(data), {}
    if code != ProduceRC.OK:
        raise ValueError(f"produce returned the code {code!r}, which is none of ProduceRC")
    if not isinstance(state, dict):
        raise TypeError(f"produce must return a dict as its state, not {type(state).__name__}")
    return ProduceRC.OK, data, state
