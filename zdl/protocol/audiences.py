"""Audiences: whom a transaction is for, what is known of each receiver, and what follows from that for the whole.

Values and questions only: what happens, and when, is `zdl.protocol.offers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zdl.protocol.effects import Outcome
from zdl.protocol.ranges import Range, contains

# A receiver that has come to one of these stays there, whatever it says later.
ABSORBING = frozenset({Outcome.FINISHED, Outcome.EXPIRED})
# The number of a pull that has none yet: its receiver is being handed over what it will confirm; see `Offers.use`.
ABOUT_TO = 0
# Pulls of one receiver that are over and recognised when they confirm again. A receiver repeats a confirmation for 16 s.
PULLS_REMEMBERED = 256
# Offers of one transaction that are told one by one.
OFFERS_TOLD_MAX = 16


@dataclass(frozen=True, slots=True)
class Offer:
    """One offer as the lender makes it: `offer_id` and `secret` are 16 random bytes each.

    Attributes:
        enough: ranges of it, each of which is as good as all of it: the same object in another form.
        gaps: what lies between items and is nobody's: how many bytes, by where they begin.
        is_counted: whether a receiver has finished only when it has this offer too. What is not counted (a slice, gathered
            for one receiver out of an offer that is) is served, kept and released like all else, and is waited for by nobody.
        is_told: whether its lender is told of each receiver that has it: `OfferHad`.
    """

    offer_id: bytes
    secret: bytes = field(repr=False)
    bytes_total: int
    enough: tuple[Range, ...] = ()
    is_counted: bool = True
    is_told: bool = False
    gaps: Mapping[int, int] = field(default_factory=dict, repr=False, compare=False)

    def is_had(self, confirmed: Sequence[Range]) -> bool:
        """Whether who has confirmed these joined ranges has the object."""
        return any(contains(confirmed, each) for each in ((0, self.bytes_total), *self.enough))


@dataclass(frozen=True, slots=True)
class Audience:
    """Whose confirmation ends a transaction.

    Attributes:
        names: these receivers, each; or
        count: any so many different ones; 0 means that only the lease or the lender ends it.
        targets: to whom the message went that lends it, if these are who is counted.
        is_closed: who is not named is refused; else he is served, and counts for nothing.
    """

    names: frozenset[str] = frozenset()
    count: int = 1
    targets: frozenset[str] = frozenset()
    is_closed: bool = False


@dataclass(frozen=True, slots=True)
class Budgets:
    """How long a transaction waits for a single receiver; None: as long as its lease.

    Attributes:
        first_pull_s: a named receiver that has asked for nothing after this time has expired.
        silence_s: a receiver that has begun, and of which nothing is heard for this time, has expired: no question, no sign
            that it is still at it, no confirmation, for any offer of the transaction.
    """

    first_pull_s: float | None = None
    silence_s: float | None = None


UNLIMITED = Budgets()


@dataclass(slots=True)
class Receiver:
    """One receiver of a transaction.

    Attributes:
        heard_at: when it last said anything.
        outcome: how it ended; None while it is active.
        gave_up: how it ends when its last pull is over: it dropped one, or one was denied.
        why: it failed: the code of the error.
        pulls: by number and offer, when each pull that has asked was heard last; None: it is over. The number begins at 62
            random bits: a confirmation whose pull never asked here belongs to another life, and is not believed.
        confirmed: which bytes of which offer it has verified and stored.
        cut_off_at: since when it has no way to us.
    """

    heard_at: float
    outcome: Outcome | None = None
    gave_up: Outcome | None = None
    why: str = ""
    pulls: dict[tuple[int, bytes], float | None] = field(default_factory=dict)
    confirmed: dict[bytes, tuple[Range, ...]] = field(default_factory=dict)
    bytes_served: int = 0
    cut_off_at: float | None = None

    @property
    def is_pulling(self) -> bool:
        """Whether a pull of it is under way, for all that is known."""
        return any(heard_at is not None for heard_at in self.pulls.values())

    @property
    def pull_heard_at(self) -> float | None:
        """When the last of its pulls that are under way was heard."""
        return max((heard_at for heard_at in self.pulls.values() if heard_at is not None), default=None)

    @property
    def bytes_confirmed(self) -> int:
        """How much it has verified and stored."""
        return sum(length for ranges in self.confirmed.values() for _, length in ranges)

    def release(self) -> None:
        """It has what it wants. One that was lost, or had given up, comes to another end: it will not come again."""
        self.gave_up = Outcome.PARTIAL
        if self.outcome is Outcome.LOST:  # what it pulled when its way was lost, it pulls no more
            self.pulls = {key: None for key in self.pulls}
        if self.outcome not in ABSORBING:
            self.outcome = None

    def gives_up(self, outcome: Outcome, why: str) -> None:
        """A pull of it is over without its bytes. That one failed says more than that others were given up with it."""
        if self.gave_up is None or (self.gave_up is Outcome.CANCELLED and outcome is Outcome.FAILED):
            self.gave_up, self.why = outcome, why if outcome is Outcome.FAILED else ""

    def comes_again(self) -> None:
        """It asks after it had come to an end: that it had failed then means nothing any more."""
        self.outcome, self.why = None, ""
        if self.gave_up is Outcome.FAILED:
            self.gave_up = Outcome.CANCELLED

    def begins(self, number: int, offer_id: bytes, now: float) -> None:
        """A pull of it was heard; the first word of one is the last of what was `ABOUT_TO`."""
        self.pulls[number, offer_id] = now
        if number != ABOUT_TO and (ABOUT_TO, offer_id) in self.pulls:
            del self.pulls[ABOUT_TO, offer_id]
        if len(self.pulls) > PULLS_REMEMBERED:
            over = next((key for key, heard_at in self.pulls.items() if heard_at is None), None)
            if over is not None:
                del self.pulls[over]

    def ends(self, number: int, offer_id: bytes) -> None:
        """A pull of it is over."""
        if (number, offer_id) in self.pulls:
            self.pulls[number, offer_id] = None


@dataclass(slots=True)
class Transaction:
    """Offers that end together.

    Attributes:
        deadline: when its lease runs out.
        waits_since: since when named receivers are waited for: `Budgets.first_pull_s`.
        is_held: offers are still to come: that all have what there is finishes nothing.
        abandoned_at: so many as are counted have begun and ended, and nobody is active any more.
        outcome: how it ended, while what is being read of it is waited for.
        why: the code of the error of ours that ended it.
        opened_at: when it was opened.
    """

    id: bytes
    audience: Audience
    budgets: Budgets
    lease_s: float
    deadline: float
    waits_since: float
    offers: dict[bytes, Offer]
    receivers: dict[str, Receiver] = field(default_factory=dict)
    is_held: bool = False
    abandoned_at: float | None = None
    outcome: Outcome | None = None
    why: str = ""
    opened_at: float = 0.0

    def has_all(self, receiver: Receiver) -> bool:
        """Whether a receiver has every byte of every offer that is counted."""
        counted = [each for each in self.offers.values() if each.is_counted]
        return bool(counted) and all(each.is_had(receiver.confirmed.get(each.offer_id, ())) for each in counted)

    def finished(self) -> set[str]:
        """Those who have it all."""
        return {name for name, each in self.receivers.items() if each.outcome is Outcome.FINISHED}

    def verdict(self) -> Outcome | None:
        """How the transaction ends by what its receivers have come to; None: it goes on."""
        if self.is_held:
            return None
        finished, names, count = self.finished(), self.audience.names, self.audience.count
        content = finished | {name for name, each in self.receivers.items() if each.outcome is Outcome.PARTIAL}
        if not names:
            if 0 < count <= len(content):
                return Outcome.FINISHED if count <= len(finished) else Outcome.PARTIAL
            lost = {name for name in self.audience.targets & self.receivers.keys()
                    if self.receivers[name].outcome is Outcome.LOST}
            is_over = lost and len(content) + len(lost) >= count and self.is_quiet()
            return (Outcome.PARTIAL if content else Outcome.FAILED) if count and is_over else None
        if names <= finished:
            return Outcome.FINISHED
        if all(name in self.receivers and self.receivers[name].outcome is not None for name in names):
            return Outcome.PARTIAL if names & content else Outcome.FAILED
        return None

    def is_abandoned(self) -> bool:
        """Whether so many as are counted have begun and come to some end, and nobody is active."""
        if self.audience.names or not self.audience.count or self.is_held:
            return False
        return len(self.receivers) >= self.audience.count and self.is_quiet()

    def is_quiet(self) -> bool:
        """Whether nobody who has begun is active."""
        return all(each.outcome is not None for each in self.receivers.values())

    def told(self, outcome: Outcome) -> tuple[tuple[str, Outcome], ...]:
        """The truth about each receiver when the transaction ends like this."""
        begun = tuple((name, each.outcome or _unended(each, outcome)) for name, each in sorted(self.receivers.items()))
        return begun + tuple((name, outcome) for name in sorted(self.audience.names - self.receivers.keys()))

    def reasons(self) -> tuple[tuple[str, str], ...]:
        """Why those have failed who have."""
        return tuple((name, each.why) for name, each in sorted(self.receivers.items())
                     if each.why and each.outcome is Outcome.FAILED)


def _unended(receiver: Receiver, outcome: Outcome) -> Outcome:
    """What is told of a receiver that had begun and not ended when its transaction ended like this."""
    if outcome in (Outcome.FINISHED, Outcome.PARTIAL, Outcome.FAILED):
        return Outcome.PARTIAL if receiver.confirmed else Outcome.FAILED
    return outcome


@dataclass(frozen=True, slots=True)
class ReceiverFacts:
    """What is known of one receiver now.

    Attributes:
        name: its FQCN.
        outcome: how it ended; None while it is active.
        is_pulling: whether a pull of it is under way.
        bytes_served: asked for, and answered.
        bytes_confirmed: verified and stored.
        silent_s: since it last said anything.
        is_cut_off: whether it has no way to us.
    """

    name: str
    outcome: Outcome | None
    is_pulling: bool
    bytes_served: int
    bytes_confirmed: int
    silent_s: float
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class TransactionFacts:
    """What is known of one open transaction now.

    Attributes:
        id: 16 bytes.
        audience: whom it waits for.
        offers_count: how many offers it has.
        bytes_total: of the offers that are counted.
        lease_left_s: when nobody renews it.
        receivers: those who have begun.
        age_s: since it was opened.
        is_held: whether offers are still to come.
        offers: the first of them that are counted, each with its id and how many bytes it has.
    """

    id: bytes
    audience: Audience
    offers_count: int
    bytes_total: int
    lease_left_s: float
    receivers: tuple[ReceiverFacts, ...]
    age_s: float = 0.0
    is_held: bool = False
    offers: tuple[tuple[bytes, int], ...] = ()

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Those who were named and have come to no end."""
        ended = {each.name for each in self.receivers if each.outcome is not None}
        return tuple(sorted(self.audience.names - ended))

    @classmethod
    def of(cls, transaction: Transaction, now: float) -> TransactionFacts:
        """The facts of a transaction."""
        receivers = tuple(ReceiverFacts(name, each.outcome, each.is_pulling, each.bytes_served, each.bytes_confirmed,
                                        now - each.heard_at, each.cut_off_at is not None)
                          for name, each in transaction.receivers.items())
        counted = [each for each in transaction.offers.values() if each.is_counted]
        return cls(transaction.id, transaction.audience, len(transaction.offers), sum(each.bytes_total for each in counted),
                   transaction.deadline - now, receivers, now - transaction.opened_at, transaction.is_held,
                   tuple((each.offer_id, each.bytes_total) for each in counted[:OFFERS_TOLD_MAX]))
