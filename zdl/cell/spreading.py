"""Spreading: what goes to many cells at once: broadcasts, and notices to one or many.

A body that several targets share is packed once, and lent to as many receivers. All bodies are packed before the first
message is sent, so that one that cannot travel stops them all.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from zdl.cell.answers import Answers, Notices, Settlement, Undelivered
from zdl.cell.calling import Caller, check_headers, check_names, timeout_of
from zdl.cell.futures import Sending
from zdl.cell.handlers import Pool
from zdl.cell.lending import NOTHING, Lent
from zdl.cell.messages import REFS_HEADER, Answer
from zdl.cell.packing import Shared, lent_by
from zdl.cell.service import Scope
from zdl.cell.signal import Signal
from zdl.cell.telling import Teller, hearing
from zdl.errors import ZdlError
from zdl.fqcn import parse
from zdl.options import Options
from zdl.protocol import messages as wire
from zdl.protocol.calls import Question
from zdl.protocol.messages import Body
from zdl.transport.control import Control

Arrived = Callable[[Answer, float | None], Answer]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What filters have made of a broadcast.

    Attributes:
        targets: all of them.
        headers: of each request that is sent.
        preset: the answers of targets that are not asked.
        arrived: what the filters make of an answer that came; gets when the call ends, too.
    """

    targets: Sequence[str]
    headers: Mapping[str, Mapping[str, object]]
    preset: Sequence[Answer]
    arrived: Arrived


@dataclass(frozen=True, slots=True)
class _Parcel:
    """One body, packed."""

    parts: Body
    scope: Scope | None
    has_refs: bool


class Spreader:
    """What a cell sends to many.

    Threads: all methods from any thread.

    Args:
        fqcn: the cell.
        options: its options.
        caller: packs the bodies, finishes the replies.
        control: its control lane.
        pool: where users' functions hear of what happens.
        is_alive: whether the control loop still runs.
    """

    def __init__(self, fqcn: str, options: Options, *, caller: Caller, control: Control, pool: Pool,
                 is_alive: Callable[[], bool]) -> None:
        self._fqcn = fqcn
        self._options = options
        self._caller = caller
        self._control = control
        self._pool = pool
        self._is_alive = is_alive

    def broadcast(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending,
                  outgoing: Outgoing | None = None) -> Answers:
        """One request per target. A body that is shared is packed once.

        Args:
            bodies: by target.
            channel: first half of the handlers' name.
            topic: second half.
            sending: what the call may choose.
            outgoing: what differs from target to target, where filters are used.
        """
        timeout_s = timeout_of(sending, self._options.calls)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        names = {target: parse(target) for target in bodies}
        check_names(channel, topic)
        check_headers(sending.headers)
        mark = {} if sending.workflow is None else sending.workflow.carried([*names.values()])
        packed = self._pack_each(bodies, names, sending)
        shared = _shared(packed, bodies, sending)
        lent = {target: shared[id(body)].lent for target, body in bodies.items()}  # who keeps the answers keeps no body
        arrived = None if outgoing is None else outgoing.arrived
        wanted = [*bodies] if outgoing is None else outgoing.targets
        finishing = sending if arrived is None else replace(sending, resolve=False)
        answers = Answers(self._fqcn, wanted, self._control.loop.lead, self._is_alive, finish=lambda target, settlement: (
            self._answer(target, settlement, finishing, until, arrived, lent=lent.get(target, NOTHING))))
        answers.lent = lent_by(*(each.scope for each in packed.values()))
        for answer in () if outgoing is None else outgoing.preset:
            answers.preset(answer)
        for target, body in bodies.items():
            parts, has_refs = packed[id(body)].parts, packed[id(body)].has_refs
            headers = sending.headers if outgoing is None else outgoing.headers[target]
            question = Question(names[target], channel, topic, parts, timeout_s,
                                self._caller.headers({**headers, **mark} if mark else headers, has_refs), sending.trace)
            self._ask_one(answers, target, question, shared[id(body)], sending)
        if sending.abort is not None:
            unlink = _aborting(sending.abort, answers)
            answers.when_ended(lambda settled: unlink())
        return answers

    def told(self, answers: Answers, sending: Sending, tell: Callable[[Answer], object], *, is_filtered: bool = False) -> None:
        """Have `tell` called with each answer as it comes; what blocks is done on the handler pool.

        Args:
            answers: of a broadcast of this cell.
            sending: what that has chosen.
            tell: is called on the loop, or on the pool.
            is_filtered: whether users' filters see the answers.
        """
        def is_slow(settlement: Settlement) -> bool:
            """Whether something has to be pulled for it, or a filter sees it."""
            reply, _ = settlement
            return is_filtered or reply is not None and sending.resolve and REFS_HEADER in reply.headers

        answers.on_answer(tell, is_slow=is_slow, submit=self._pool.submit)

    def notice(self, bodies: Mapping[str, object], channel: str, topic: str, sending: Sending,
               undelivered: Undelivered | None = None, *, headers: Mapping[str, Mapping[str, object]] | None = None,
               refused: Mapping[str, ZdlError] | None = None) -> Notices:
        """Send without waiting; what a body lends ends when it cannot be delivered. One that is shared is packed once.

        Args:
            bodies: by target.
            channel: first half of the handlers' name.
            topic: second half.
            sending: what the call may choose.
            undelivered: is told, on the handler pool, of each target that it did not reach.
            headers: by target, where filters have changed them.
            refused: targets that filters have refused.
        """
        check_names(channel, topic)
        check_headers(sending.headers)
        names = {target: parse(target) for target in bodies}
        mark = {} if sending.workflow is None else sending.workflow.carried([*names.values()])
        packed = self._pack_each(bodies, names, sending)
        shared = _shared(packed, bodies, sending)
        notices = Notices([*bodies, *(refused or {})], self._telling(undelivered), is_optional=sending.optional)
        notices.lent = lent_by(*(each.scope for each in packed.values()))
        for target, error in (refused or {}).items():
            notices.failed(target, error)
            notices.handed(target)
        for target, body in bodies.items():
            parts, has_refs = packed[id(body)].parts, packed[id(body)].has_refs
            own = sending.headers if headers is None else headers[target]
            own = {**own, **mark} if mark else own
            self._notify(notices, (target, names[target], channel, topic), parts, self._caller.headers(own, has_refs),
                         shared[id(body)])
        return notices

    # --- inside ---------------------------------------------------------------------------------

    def _answer(self, target: str, settlement: Settlement, sending: Sending, until: float | None,
                arrived: Arrived | None, *, lent: Lent) -> Answer:
        try:
            reply = self._caller.finish(*settlement, None, is_optional=sending.optional)
            reply.lent = lent
            answer = Answer(target, self._caller.resolved(reply, sending, until), None)
        except ZdlError as error:
            answer = Answer(target, None, error)
        return answer if arrived is None else arrived(answer, until)

    def _ask_one(self, answers: Answers, target: str, question: Question, shared: Shared, sending: Sending) -> None:
        """One request of a broadcast; whatever is wrong with it is its answer."""
        def settled(reply: wire.Reply | None, error: ZdlError | None) -> None:
            """On the loop: its end."""
            shared.ended(error)
            answers.settle(target, reply, error)

        try:
            heard = None if sending.on_progress is None else hearing(
                sending.on_progress, self._pool.submit, self._options.calls.told_max)
            call = self._control.call(question, settled, heard)
        except ZdlError as error:
            shared.ended(error)
            answers.settle(target, None, error)
            return
        answers.began(target, lambda why: self._control.cancel(call, why))

    def _pack_each(self, bodies: Mapping[str, object], names: Mapping[str, str], sending: Sending) -> dict[int, _Parcel]:
        """Each body once, by its identity, before anything is sent; one that cannot travel takes back all.

        One body to several targets is lent to as many receivers, unless the caller named them.
        """
        targets: dict[int, list[str]] = {}
        for target, body in bodies.items():
            targets.setdefault(id(body), []).append(names[target])
        packed: dict[int, _Parcel] = {}
        try:
            for body in bodies.values():
                if id(body) not in packed:
                    sharing, receivers = targets[id(body)], sending.receivers
                    if isinstance(receivers, int) and 0 < receivers < len(sharing):
                        receivers = len(sharing)
                    packed[id(body)] = _Parcel(*self._caller.packing.pack(body, sharing, replace(sending, receivers=receivers)))
        except ZdlError:
            for each in packed.values():
                if each.scope is not None:
                    each.scope.undeliverable()
            raise
        return packed

    def _notify(self, notices: Notices, to: tuple[str, str, str, str], parts: Body, headers: Mapping[str, object],
                shared: Shared) -> None:
        target, name, channel, topic = to

        def failed(error: ZdlError) -> None:
            """It does not reach this target."""
            shared.ended(error)
            notices.failed(target, error)

        try:
            self._control.notice(name, channel, topic, headers, parts, handed=lambda: notices.handed(target), failed=failed)
        except ZdlError as error:
            failed(error)
            notices.handed(target)
            if len(notices) == 1:
                raise

    def _telling(self, undelivered: Undelivered | None) -> Undelivered | None:
        """The same for notices that did not arrive."""
        if undelivered is None:
            return None
        function, teller = undelivered, Teller("notices", self._pool.submit, self._options.calls.told_max)
        return lambda target, error: teller.tell(lambda: function(target, error))


def bodies_of(targets: str | Sequence[str] | Mapping[str, object], body: object) -> dict[str, object]:
    """The body of each target: a mapping names them, others share one."""
    if isinstance(targets, Mapping):
        return dict(targets)
    if isinstance(targets, str) or not isinstance(targets, Iterable):  # what is no name at all is found to be none
        return {targets: body}
    return {each: body for each in targets}


def _aborting(abort: Signal, answers: Answers) -> Callable[[], None]:
    """Cancels what is still out when the signal is triggered. Returns what takes that back."""
    return abort.on_trigger(lambda: answers.cancel(f"its signal was triggered with {abort.value!r}"))


def _shared(packed: Mapping[int, _Parcel], bodies: Mapping[str, object], sending: Sending) -> dict[int, Shared]:
    """What each body lends, and to how many."""
    sharing = Counter(map(id, bodies.values()))
    return {key: Shared(parcel.scope, sharing[key], is_counted=(
        isinstance(sending.receivers, int) and sending.receivers <= sharing[key])) for key, parcel in packed.items()}
