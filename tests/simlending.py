"""What simulated cells lend to each other and pull: how it is drawn, and what must have become of it in the end.

Transactions of all kinds: by names or by number, open to others or closed, held until all is there, under budgets, of offers
that break or change, and of what is made piece by piece (``zdl.download.pieces``): a marker, and leaves that are not counted,
come while its receiver is at it and are withdrawn. Each promise names the row of ``docs/parity.rst`` that it is about.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simbooks import DATA, NEVER, Pull, Transaction
from simcell import SimCell
from simworld import World

from zdl.errors import (
    Cancelled,
    DiskFull,
    IntegrityError,
    LeaseEnded,
    LocalProtocolError,
    OriginFailed,
    OriginLost,
    Refused,
    SourceChanged,
    Stalled,
    UnknownRef,
)
from zdl.fqcn import ancestors
from zdl.protocol import effects as asked
from zdl.protocol.audiences import UNLIMITED, Budgets
from zdl.protocol.effects import Outcome
from zdl.protocol.messages import Ask, Confirm, Confirmed, Denial, Verify
from zdl.protocol.offers import Audience, Offer
from zdl.refs import Source

# An ask is under way so long at most, where nothing is hurt: a direct link is dialled in vain, and then the tree is taken.
BEGUN_S = 0.5
# After a death in silence: three heartbeats and a look until it is known, one pause of redialling, and the time of a verdict.
UNKNOWN_S = 6.0
FULL = DiskFull(ref="a pull", origin="here", path="/full", need=2, free=1)


class Lendings(World):
    """The half of a history that is about what is lent.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.names: list[str] = []
        self.absent: set[str] = set()
        self.is_impatient = False

    # --- what is lent -----------------------------------------------------------------------------

    def _some_lending(self) -> None:
        rng = self.rng
        origin = self.cells.get(rng.choice(self.names))
        others = [name for name in self.names if origin is not None and name != origin.fqcn]
        if origin is None:
            return
        receivers = rng.sample(others, min(len(others), rng.choice((1, 1, 2))))
        if rng.random() < 0.05:
            receivers = [origin.fqcn]
        if rng.random() < 0.1:
            self._some_pieces(origin, receivers)
            return
        draw = rng.random()
        audience = Audience(names=frozenset(receivers[:1] if draw < 0.2 else receivers)) if draw < 0.5 else Audience(
            count=1 if draw < 0.6 else 0 if draw < 0.65 else len(receivers))
        budgets = self._some_budgets() if audience.names else UNLIMITED
        is_held = rng.random() < 0.15
        audience = replace(audience, is_closed=bool(audience.names) and rng.random() < 0.3)
        sizes = [rng.choice((0, 40, 128, 300, 520, 640)) for _ in range(rng.choice((1, 1, 2)))]
        transaction = self.lend(origin, sizes, audience, lease_s=1.6 if rng.random() < 0.2 else 40.0,
                                breaks=rng.random() < 0.03, budgets=budgets, is_held=is_held)
        if rng.random() < 0.05:
            self.lendings[transaction.sources[0].offer_id].changes_at = self.now + rng.random() * 0.3
        if is_held:
            self.at(self.now + rng.random() * 0.8, self._more_of_it, transaction, receivers)
        self._not_again(transaction)
        strangers = [name for name in others if name not in receivers]
        if strangers and rng.random() < 0.2:
            self.at(self.now + rng.random() * 0.4, self._some_pull, rng.choice(strangers), transaction.sources[0], None)
        for name in receivers if rng.random() < 0.9 else receivers[1:]:
            for source in transaction.sources:
                wait_s = rng.random() * 0.3
                if source.bytes_total >= 512 and rng.random() < 0.3:
                    self.at(self.now + wait_s, self._some_pull, name, source, ((256, source.bytes_total - 256),))
                    self.at(self.now + wait_s, self._some_pull, name, source, ((0, 128), (128, 128)))
                else:
                    self.at(self.now + wait_s, self._some_pull, name, source, None)
        if rng.random() < 0.1:
            self.at(self.now + rng.random(), self._end_early, transaction)

    def _some_budgets(self) -> Budgets:
        """Longer than an unhurt receiver takes to begin, and than it is silent."""
        draw = self.rng.random()
        first_pull_s, silence_s = self.rng.choice((1.0, 3.0)), self.rng.choice((2.5, 5.0))
        return Budgets(first_pull_s if draw < 0.3 else None, silence_s if 0.2 < draw < 0.5 else None)

    def _more_of_it(self, transaction: Transaction, receivers: list[str]) -> None:
        """What was held gets another offer, or not, and is complete from then on."""
        origin = transaction.origin
        assert isinstance(origin, SimCell)
        if origin.is_alive and transaction.ended_at is None and self.rng.random() < 0.5:
            source = self.add(transaction, self.rng.choice((40, 300)))
            for name in receivers:
                self.at(self.now + self.rng.random() * 0.3, self._some_pull, name, source, None)
        self.at(self.now + self.rng.random() * 0.3, self.seal, transaction)

    def _not_again(self, transaction: Transaction) -> None:
        """D20: an id cannot be used again while anything remembers it, neither now nor when all of it has ended."""
        origin = transaction.origin
        assert isinstance(origin, SimCell)
        taken = transaction.sources[0]
        before = origin.offers.transactions.facts(transaction.id, self.now)
        for number, offer in ((transaction.id, Offer(self.draw_bytes(16), bytes(16), 1)),
                              (self.draw_bytes(16), Offer(taken.offer_id, bytes(16), 1))):
            try:
                origin.offers.lend(number, [offer], Audience(), 1.0, self.now)
            except LocalProtocolError:
                continue
            raise AssertionError("an id is used twice")
        assert origin.offers.transactions.facts(transaction.id, self.now) == before, "who tries to use an id twice hurts who has it"

    def _some_pieces(self, origin: SimCell, receivers: list[str]) -> None:
        """An object that is made piece by piece, for receivers by name: each holds the marker while it consumes."""
        transaction = self.lend(origin, [1], Audience(names=frozenset(receivers)), is_told=True)
        for name in receivers:
            self.at(self.now + self.rng.random() * 0.3, self._some_consumer, name, transaction)

    def _some_consumer(self, name: str, transaction: Transaction) -> None:
        receiver, origin = self.cells.get(name), transaction.origin
        assert isinstance(origin, SimCell)
        if receiver is None or not origin.is_alive or transaction.ended_at is not None:
            return
        # It has the marker when it has consumed all, and not before.
        self.pull(receiver, transaction.sources[0], is_direct=self.rng.random() < 0.4, is_slow=True)
        for step in range(self.rng.choice((0, 1, 2)) if transaction.ended_at is None else 0):
            leaves = self.add(transaction, self.rng.choice((40, 300)), is_counted=False)
            self.at(self.now + 0.1 * step, self._some_pull, name, leaves, None)
            self.at(self.now + 0.3 + self.rng.random() * 0.5, self._withdraw, origin, leaves)

    def _withdraw(self, origin: SimCell, source: Source) -> None:
        """The large leaves of an answer are not needed any more, or its receiver is gone."""
        if origin.is_alive:
            transaction = self.lendings[source.offer_id].transaction
            transaction.withdrawn[source] = self.now
            self.watch.moves(transaction)
            origin.act(DATA, origin.offers.withdraw(source.offer_id, Outcome.DELETED, self.now))

    # --- what is pulled ---------------------------------------------------------------------------

    def _some_pull(self, name: str, source: Source, ranges: tuple[tuple[int, int], ...] | None) -> None:
        receiver = self.cells.get(name)
        if receiver is None:
            return
        number = self.pull(receiver, source, ranges, is_direct=self.rng.random() < 0.4, finishes=self.rng.random() < 0.3,
                           is_slow=self.rng.random() < 0.1)
        if self.rng.random() < 0.08:
            self.at(self.now + self.rng.random() * 0.1, self.cancel_pull, receiver, number)
        elif self.rng.random() < 0.04:
            self.at(self.now + self.rng.random() * 0.1, self._fail_pull, receiver, number)
        if self.rng.random() < 0.1:
            self.at(self.now + self.rng.random(), self._hang_direct, receiver, source.origin)

    def _fail_pull(self, receiver: SimCell, number: int) -> None:
        """There is no room for what comes."""
        pull = self.pulls[receiver, number]
        if receiver.is_alive and not pull.is_settled:
            self.tell(receiver.fqcn, "=", ("fails with pull", number))
            pull.failed_with = FULL.code
            receiver.act(DATA, receiver.pulls.cancel(number, FULL, self.now))

    def _hang_direct(self, receiver: SimCell, origin: str) -> None:
        """The shell gives up a direct link, for want of sockets."""
        link = receiver.data.peers.up(origin) if receiver.is_alive else None
        if link is not None and link.address and not link.is_parent:
            self.hurt(receiver.wires[DATA][link.link])  # what is on its way, also for others, may be lost
            receiver.hanging = origin  # its own doing: what is told of it says nothing about the peer
            receiver.act(DATA, receiver.data.hang(link.link, "idle", self.now))
            receiver.hanging = ""

    def _end_early(self, transaction: Transaction) -> None:
        transaction.is_ended_early = transaction.settled is None
        self.end(transaction)
        self.at(self.now + 0.5, self._must_be_told, transaction, self.now)

    def _must_be_told(self, transaction: Transaction, ended_at: float) -> None:
        """Where nothing was hurt, receivers hear soon that an offer was withdrawn."""
        if self.hurt_at <= self.now:
            return
        for pull in self.pulls.values():
            if pull.source in transaction.sources and pull.started_at <= ended_at:
                is_finishing = pull.is_slow and sum(pull.stored.values()) >= sum(length for _, length in pull.ranges)
                assert pull.is_settled or is_finishing, f"{pull.receiver.fqcn} is not told that {pull.source.label} was withdrawn"

    def _end_unused(self) -> None:
        """The lender ends what nobody pulls; short leases run out by themselves."""
        if any(len(cell.pulls) for cell in self.cells.values()):
            return
        for transaction in self.transactions.values():
            if transaction.lease_s > 10 and transaction.settled is None:
                self.end(transaction)

    # --- what has become of it --------------------------------------------------------------------

    def _verify_pull(self, number: int, pull: Pull) -> None:
        what = f"pull {number} of {pull.source.label} by {pull.receiver.fqcn} from {pull.source.origin}"
        assert pull.is_settled and pull.settled_at is not None, f"{what} never settles"
        assert pull.forgotten_at is not None, f"{what} is never forgotten"
        if self.hurt_at > pull.forgotten_at and pull.has_way:
            assert pull.forgotten_at < pull.settled_at + 0.1, f"{what}: nobody notes its end"
        if pull.error is None:
            return
        lending = self.lendings[pull.source.offer_id]
        transaction, origin = lending.transaction, lending.transaction.origin
        if pull.is_cancelled:
            assert isinstance(pull.error, Cancelled), f"{what} was cancelled and ends with {pull.error!r}"
            return
        if isinstance(pull.error, IntegrityError):
            assert pull.error.attempts == self.options.pulls.bad_chunks_max
            return
        if lending.breaks and isinstance(pull.error, OriginFailed):
            return
        if pull.failed_with:
            assert pull.error is FULL, f"{what} failed for want of room and ends with {pull.error!r}"
            return
        if lending.changes_at < NEVER and isinstance(pull.error, SourceChanged):
            return
        if self._is_stranger(pull) and isinstance(pull.error, (Refused, UnknownRef)):
            return
        if not origin.is_alive and self.died_at[origin] <= pull.settled_at:
            is_right = isinstance(pull.error, (OriginLost, UnknownRef, LeaseEnded)) or self.is_impatient
            assert is_right, f"{what} ends with {pull.error!r}"
            return
        if isinstance(pull.error, LeaseEnded):
            if self._is_over_for(pull, transaction):
                return
            is_over = transaction.settled is not None and transaction.ended_at is not None
            assert is_over and transaction.ended_at <= pull.settled_at, f"{what}: nobody ended it, but {pull.error!r}"
            outcome = transaction.settled.outcome
            if outcome is Outcome.EXPIRED:
                assert self.hurt_at < NEVER, f"{what} was kept and expires"
            elif outcome in (Outcome.PARTIAL, Outcome.FAILED) and not self.is_impatient and not transaction.settled.why and (
                    pull.started_at < transaction.ended_at - 0.1 and self.hurt_at == NEVER):
                told = dict(transaction.settled.receivers)[pull.receiver.fqcn]
                assert told not in (Outcome.CANCELLED, Outcome.LOST), f"{what} goes on, but its receiver is {told}"
            return
        if self.is_impatient and isinstance(pull.error, (OriginLost, Stalled)):
            return
        line = {*ancestors(pull.receiver.fqcn), *ancestors(pull.source.origin)}
        if isinstance(pull.error, OriginLost) and self._was_silenced(pull):
            return
        assert line & self.absent, f"its way recovers, but {what} ends with {pull.error!r}"
        # A direct link to some third cell may lead there, and no way back.
        assert isinstance(pull.error, (OriginLost, Stalled)), f"{what} ends with {pull.error!r}"

    def _was_silenced(self, pull: Pull) -> bool:
        """Whether one of its cells was killed in silence, and others may not have known that yet.

        They come back to its next life when they have found out, which is later than an origin is taken for dead of which
        two seconds long nobody knows a way.
        """
        assert pull.settled_at is not None
        names = {pull.receiver.fqcn, pull.source.origin, *ancestors(pull.receiver.fqcn), *ancestors(pull.source.origin)}
        return any(pull.settled_at - UNKNOWN_S <= self.silenced_at.get(name, float("-inf")) <= pull.settled_at for name in names)

    def _is_stranger(self, pull: Pull) -> bool:
        """Whether it is of somebody to whom this is not lent."""
        audience = self.lendings[pull.source.offer_id].transaction.audience
        return audience.is_closed and pull.receiver.fqcn not in audience.names

    def _is_over_for(self, pull: Pull, transaction: Transaction) -> bool:
        """Whether its receiver was late, or its offer withdrawn, and the transaction goes on."""
        assert pull.settled_at is not None
        return min(transaction.expired_at(pull.receiver.fqcn),
                   transaction.withdrawn.get(pull.source, NEVER)) <= pull.settled_at

    def _verify_stranger(self, number: int, pull: Pull) -> None:
        """D12, D26: who is not named gets nothing of what is closed, and does not learn that it is lent after its end."""
        if not self._is_stranger(pull) or not pull.source.bytes_total:
            return
        what = f"pull {number} by {pull.receiver.fqcn}, to whom it is not lent,"
        assert pull.error is not None and not pull.stored, f"{what} gets it"
        assert not isinstance(pull.error, LeaseEnded), f"{what} hears {pull.error}"

    def _verify_transaction(self, transaction: Transaction) -> None:
        settled, names = transaction.settled, transaction.audience.names
        assert settled is not None or not transaction.origin.is_alive, "a transaction never settles"
        if settled is not None:
            self._verify_receivers(transaction, dict(settled.receivers))
            self._verify_memory(transaction, dict(settled.receivers))
        for name, outcome, why, at in transaction.told:
            self._verify_told(transaction, name, outcome, why, at)
        self._verify_budgets(transaction)
        if settled is None or settled.outcome is Outcome.FINISHED or not names or transaction.is_ended_early:
            return
        if self.is_impatient or self.absent or transaction.lease_s < 10 or settled.outcome is Outcome.CLOSED:
            return
        if transaction.is_held or settled.why or any(transaction.expired_at(name) < NEVER for name in names):
            return
        # Lives that still are, that wanted it all, and got it all: their confirmations arrive in the end.
        pulls = [pull for pull in self.pulls.values()
                 if pull.source in transaction.sources and pull.receiver.fqcn in names]
        if all(pull.receiver.is_alive and pull.is_settled and pull.error is None for pull in pulls):
            pulled = {(pull.receiver.fqcn, pull.source) for pull in pulls}
            has_all = all((name, source) in pulled and self.holds(name, source)
                          for name in names for source in transaction.sources)
            assert not has_all, f"every receiver has everything, but the transaction is {settled.outcome}"

    def _verify_receivers(self, transaction: Transaction, told: Mapping[str, Outcome]) -> None:
        """Whose confirmation of everything was noted in time has finished, whatever was thought of him before."""
        assert transaction.ended_at is not None
        audience = transaction.audience
        for receiver in self.cells.values():
            if audience.is_closed and receiver.fqcn not in audience.names:
                continue
            noted = {source for (cell, _), pull in self.pulls.items() for source in (pull.source,) if (
                cell is receiver and pull.error is None and pull.ranges == ((0, source.bytes_total),)
                and pull.forgotten_at is not None and pull.forgotten_at < transaction.ended_at
                and pull.forgotten_at < pull.settled_at + 15.0)}
            if noted >= set(transaction.sources) and transaction.expired_at(receiver.fqcn) == NEVER:
                assert told.get(receiver.fqcn) is Outcome.FINISHED, f"{receiver.fqcn} confirmed all and is {told}"

    def _pulls_of(self, transaction: Transaction, name: str) -> list[Pull]:
        """By all lives of a receiver."""
        offered = {*transaction.sources, *transaction.leaves}
        return [pull for pull in self.pulls.values() if pull.receiver.fqcn == name and pull.source in offered]

    def _verify_told(self, transaction: Transaction, name: str, outcome: Outcome, why: str, at: float) -> None:
        """D14, D16, D17: what is told of one receiver is what happened to it."""
        pulls = self._pulls_of(transaction, name)
        if outcome is Outcome.EXPIRED:
            assert transaction.budgets != UNLIMITED and name in transaction.audience.names | {pull.receiver.fqcn for pull in pulls}
            is_busy = any(pull.started_at < at - BEGUN_S and (pull.settled_at is None or pull.settled_at >= at) for pull in pulls)
            assert not (is_busy and self.hurt_at > at), f"{name} is at it, and expires"
        elif outcome is Outcome.FAILED and why in (OriginFailed.code, SourceChanged.code):
            assert any(self.lendings[each.offer_id].breaks or self.lendings[each.offer_id].changes_at <= at
                       for each in transaction.sources), f"{name} has failed with {why}, and nothing is wrong with what is lent"
        elif outcome is Outcome.FAILED:
            codes = {pull.error.code for pull in pulls if pull.error is not None}
            assert why in codes, f"{name} is told to have failed with {why!r}, and its pulls ended with {codes}"
        elif outcome is Outcome.CANCELLED:
            is_right = any(pull.error is not None or not pull.receiver.is_alive for pull in pulls)
            assert is_right, f"{name} is told to have given up, and has not"

    def _verify_budgets(self, transaction: Transaction) -> None:
        """D16: who is named and never comes expires at its time, and not later."""
        origin, budget = transaction.origin, transaction.budgets.first_pull_s
        if budget is None or not origin.is_alive or transaction.ended_at is None or transaction.is_held:
            return
        due = transaction.waits_since + budget
        for name in transaction.audience.names if transaction.ended_at > due + 1e-6 else ():
            if not self._pulls_of(transaction, name):
                assert due <= transaction.expired_at(name) <= due + 1e-6, f"{name} never came, and is waited for"

    def _verify_memory(self, transaction: Transaction, told: Mapping[str, Outcome]) -> None:
        """D8: whose last word was lost is told again, as long as that is remembered; nobody else is, where it was closed."""
        origin, settled = transaction.origin, transaction.settled
        assert isinstance(origin, SimCell) and settled is not None and transaction.ended_at is not None
        until = transaction.ended_at + self.options.offers.tombstone_s
        if not origin.is_alive or self.now >= until:
            return
        for source in transaction.sources:
            label = source.label
            for name in (name for name, outcome in told.items() if outcome is Outcome.FINISHED):
                confirm = Confirm(name, origin.fqcn, 7, source.offer_id, source.secret, ())
                assert origin.offers.receive(confirm, self.now) == [asked.Post(Confirmed(origin.fqcn, name, 7))]
            ask = Ask("stranger", origin.fqcn, 7, source.offer_id, source.secret, 0, 1, Verify.BLAKE3)
            (effect,) = origin.offers.receive(ask, self.now)
            assert isinstance(effect, asked.Post) and isinstance(effect.message, Denial), f"a stranger is served {label}"
            is_hidden = effect.message.code == UnknownRef.code
            assert is_hidden == transaction.audience.is_closed, f"a stranger hears {effect.message.code} about {label}"
