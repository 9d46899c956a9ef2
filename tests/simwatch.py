"""What somebody who watches a simulated cell writes down, and holds against the promises of the rows named here.

Questions asked again (D7), who has begun and when an end is known (D15), what is found by its ids (D6), and progress at both
ends (D9, D10). It changes nothing and draws nothing: the histories are the same with it and without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from simbooks import NEVER, Lending, Life, Pull, Transaction

from zdl.download.meters import Meters
from zdl.observe.progress import COMPLETED, ENDS, START, TransferProgress, TransferProgressTracker
from zdl.options import PullOptions
from zdl.protocol.effects import Effect, Outcome, Post, TransactionSettled
from zdl.protocol.messages import Ask, Confirm, Denial, Drop, Keep
from zdl.protocol.offers import Offers

# Reading takes so long at most; an end waits for that, and for nothing else.
READ_S = 0.02
# What is told of progress: at most so often.
INTERVAL_S = 0.1
# One transaction in so many has a meter.
METERED = 3
EPSILON = 1e-9


@dataclass(slots=True)
class Asking:
    """What one pull has asked for.

    Attributes:
        asked: by offset: how many bytes, when for the last time, and how many doubts there had been then.
        doubts: how often something was heard that makes all that is under way doubtful.
        bad: chunks that came with a wrong digest.
        moved_at: when it asked for something, or something came.
        silences: how often in a row only silence has made it ask again; anything that comes begins anew.
    """

    asked: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    doubts: int = 0
    bad: set[int] = field(default_factory=set)
    moved_at: list[float] = field(default_factory=list)
    silences: int = 0

    def silent_s(self, since: float, now: float) -> float:
        """The longest time in which nothing moved."""
        moments = [since, *(at for at in self.moved_at if at >= since), now]
        return max(later - earlier for earlier, later in zip(moments, moments[1:]))


class Clock(Protocol):
    """What tells the time of a world."""

    now: float


class Origin(Life, Protocol):
    """A cell that lends."""

    offers: Offers
    lent: dict[bytes, Lending]


class Watch:
    """Watches all cells of one world.

    Args:
        world: whose.
    """

    def __init__(self, world: Clock) -> None:
        self._world = world
        self._pulls: defaultdict[tuple[Life, int], Asking] = defaultdict(Asking)
        self._begun: defaultdict[bytes, tuple[str, ...]] = defaultdict(tuple)
        self._moved_at: dict[bytes, float] = {}
        self._meters: dict[bytes, Meters] = {}
        self._trackers: defaultdict[bytes, TransferProgressTracker] = defaultdict(lambda: TransferProgressTracker(NEVER))
        self._told: defaultdict[tuple[bytes, str, str], list[TransferProgress]] = defaultdict(list)

    # --- D7: what is asked again --------------------------------------------------------------------

    def asks(self, cell: Life, ask: Ask, options: PullOptions) -> None:
        """D7: what is lost is asked for again, the same piece, after longer and longer silences; or for a reason, at once."""
        pull, now = self._pulls[cell, ask.id], self._world.now
        known = pull.asked.get(ask.offset)
        if known is not None:
            length, at, doubts = known
            assert ask.length == length, f"{cell.fqcn} asks again for another piece: {ask.length} bytes, and not {length}"
            if doubts == pull.doubts and ask.offset not in pull.bad:
                pause_s = options.retry_s * 2.0 ** pull.silences
                waited_s = pull.silent_s(at, now)
                assert waited_s >= pause_s - EPSILON, f"{cell.fqcn} asks again after {waited_s} s of silence, not after {pause_s}"
                pull.silences += 1
        pull.bad.discard(ask.offset)
        pull.asked[ask.offset] = ask.length, now, pull.doubts
        pull.moved_at.append(now)

    def lands(self, cell: Life, number: int, offset: int, *, is_intact: bool) -> None:
        """Something has come."""
        pull = self._pulls[cell, number]
        pull.moved_at.append(self._world.now)
        if is_intact:
            pull.silences = 0
        else:
            pull.bad.add(offset)

    def doubts(self, cell: Life, numbers: Iterable[int]) -> None:
        """A question came back, or the way has changed."""
        for number in numbers:
            self._pulls[cell, number].doubts += 1

    # --- D6, D15: what is found, and who has begun --------------------------------------------------

    def hears(self, origin: Origin, message: Ask | Confirm | Keep | Drop, effects: Sequence[Effect]) -> None:
        """D6: an offer is found by its ids while it is lent. D15: who has begun is who was heard, in that order."""
        lending = origin.lent.get(message.offer_id)
        if lending is None:
            return
        transaction, now = lending.transaction, self._world.now
        found, facts = origin.offers.transactions.holding(message.offer_id), origin.offers.transactions.facts(transaction.id, now)
        if isinstance(message, (Confirm, Drop)) and transaction.ended_at in (None, now):  # later ones end nothing
            self.moves(transaction)
        if transaction.ended_at is not None:
            assert found is None and facts is None, "what has ended is still found"
            return
        is_withdrawn = any(each.offer_id == message.offer_id for each in transaction.withdrawn)
        assert facts is None or is_withdrawn or found == transaction.id, "what is lent is not found by the id of its offer"
        if facts is None:
            return
        before, names = self._begun[transaction.id], tuple(each.name for each in facts.receivers)
        assert names[:len(before)] == before, f"who has begun changes: {before}, and then {names}"
        new = set(names[len(before):])
        is_refused = any(isinstance(each, Post) and isinstance(each.message, Denial) for each in effects)
        # What is said of an offer that was withdrawn is answered, and begins nothing.
        assert is_refused or found is None or message.origin in names, f"{message.origin} was heard, and has not begun"
        missed = {name for name in new if transaction.expired_at(name) < NEVER}
        assert new - missed <= {message.origin}, f"{new} have begun, and {message.origin} was heard"
        self._begun[transaction.id] = names

    def moves(self, transaction: Transaction) -> None:
        """Something is heard, or done, that may be its end."""
        self._moved_at[transaction.id] = self._world.now

    def ended(self, transaction: Transaction, settled: TransactionSettled) -> None:
        """D15: that all have it is known in the moment in which the last confirmation comes, and is told when nothing is read."""
        assert transaction.ended_at is not None
        if settled.outcome is Outcome.FINISHED:
            moved_at = self._moved_at.get(transaction.id)
            assert moved_at == transaction.ended_at, f"all had it at {moved_at}, and that is known at {transaction.ended_at}"
        late_s = self._world.now - transaction.ended_at
        assert late_s <= READ_S + EPSILON, f"the end is told {late_s} s after it was known"
        assert set(self._begun[transaction.id]) <= {name for name, _ in settled.receivers}, "somebody had begun, and is not told of"
        meters = self._meters.get(transaction.id)
        if meters is not None:
            meters.ended(dict(settled.receivers))
            self._check_ends(transaction, settled)

    # --- D9, D10: how far they are ------------------------------------------------------------------

    def lends(self, transaction: Transaction) -> None:
        """Some lenders want to know how far their receivers are."""
        if transaction.id[0] % METERED:
            return
        meters = Meters(lambda event: self._progressed(transaction, event), INTERVAL_S, clock=lambda: self._world.now)
        meters.transaction_id = transaction.id.hex()
        self._meters[transaction.id] = meters

    def serves(self, transaction: Transaction, ask: Ask) -> None:
        """What was asked for goes out."""
        meters = self._meters.get(transaction.id)
        if meters is not None:
            meters.served(ask)

    def finished(self, transaction: Transaction, receiver: str) -> None:
        """A receiver has all of it."""
        meters = self._meters.get(transaction.id)
        if meters is not None:
            meters.finished(receiver)

    def _progressed(self, transaction: Transaction, event: TransferProgress) -> None:
        """D9: at the origin, each event follows the one before, no more often than asked for, and its end is its last."""
        told = self._told[transaction.id, event.ref_id, event.receiver_id]
        must_follow(event, told, self._trackers[transaction.id], self._world.now)
        source = next(each for each in (*transaction.sources, *transaction.leaves) if each.offer_id.hex() == event.ref_id)
        assert event.bytes_done <= source.bytes_total, f"{event}: more bytes than there are"
        if event.state == COMPLETED and source in transaction.sources:
            assert event.bytes_done == source.bytes_total, f"{event}: it is complete, and bytes are missing"

    def _check_ends(self, transaction: Transaction, settled: TransactionSettled) -> None:
        """D9: who had begun is told of with the end that it came to."""
        outcomes = dict(settled.receivers)
        for (number, _, receiver), told in self._told.items():
            if number == transaction.id:
                assert told[-1].is_end, f"{receiver} is left as {told[-1].state}"
                is_well = outcomes[receiver] is Outcome.FINISHED
                assert not is_well or told[-1].state == COMPLETED, f"{receiver} has it all, and is told as {told[-1].state}"

    def arrived(self, pull: Pull) -> None:
        """D10: at the receiver, what was told last of a pull that ended well is all of it."""
        total = sum(length for _, length in pull.ranges)
        assert pull.error is not None or pull.told == total, f"{pull.told} of {total} bytes were told of, and it has ended well"


def must_follow(event: TransferProgress, told: list[TransferProgress], tracker: TransferProgressTracker, now: float) -> None:
    """One more event of a row: it follows the one before, no more often than asked for, and an end is the last."""
    assert tracker.update(event, now), f"{event} comes after its end, or goes back"
    assert event.sequence == len(told) and (event.state == START) == (not told), f"{event} has another number"
    is_due = not told or event.state in ENDS or event.timestamp >= told[-1].timestamp + INTERVAL_S - EPSILON
    assert is_due, f"{event} comes {event.timestamp - told[-1].timestamp} s after the one before"
    told.append(event)
