"""Outcomes: how a transaction ended, as a value that nobody can change: in all, for each receiver, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from zdl.protocol.effects import Outcome

# Why a transaction ended as it did; a stable word each.
ALL_CONFIRMED = "all-confirmed"
RECEIVER_FAILED = "receiver-failed"
NO_OBJECTS = "no-objects"
UNKNOWN_RECEIVERS = "unknown-receivers"
SOURCE_CHANGED = "source-changed"
_BY_LENDER = MappingProxyType({
    Outcome.EXPIRED: "lease-ended", Outcome.DELETED: "deleted", Outcome.UNDELIVERABLE: "undeliverable", Outcome.CLOSED: "closed"})


@dataclass(frozen=True, slots=True)
class TransactionOutcome:
    """How a transaction ended.

    Attributes:
        outcome: in one word.
        receivers: how it ended for each that was named or that asked; it cannot be changed.
        bytes: verified and stored by all of them together.
        reason: ``all-confirmed``, ``receiver-failed``, ``no-objects``, ``unknown-receivers`` (their number was never said, so
            nobody can say that all have it), ``source-changed`` (what was lent is not what it was), ``lease-ended``,
            ``deleted``, ``undeliverable``, ``closed``.
        quorum: so many receivers with all of it were wanted at least; None: all of them.
        errors: the code of the error of each receiver that failed, where it told one (``disk-full``), or was told one
            (``origin-failed``); it cannot be changed.
    """

    outcome: Outcome
    receivers: Mapping[str, Outcome]
    bytes: int = field(default=0, compare=False)
    reason: str = field(default="", compare=False)
    quorum: int | None = field(default=None, compare=False)
    errors: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "receivers", MappingProxyType(dict(self.receivers)))
        object.__setattr__(self, "errors", MappingProxyType(dict(self.errors)))

    @property
    def is_complete(self) -> bool:
        """Whether everybody who was counted has all of it, verified."""
        return self.outcome is Outcome.FINISHED

    @property
    def completed(self) -> bool:
        """The ancestor's word for `is_complete`."""
        return self.is_complete

    @property
    def finished(self) -> tuple[str, ...]:
        """The receivers that have all of it."""
        return tuple(name for name, outcome in self.receivers.items() if outcome is Outcome.FINISHED)

    @property
    def quorum_met(self) -> bool:
        """Whether as many receivers as were wanted have all of it; without a quorum, whether it is complete."""
        return self.is_complete if self.quorum is None else len(self.finished) >= self.quorum


def reason_of(outcome: Outcome, *, has_objects: bool, is_counted: bool, has_changed: bool = False) -> str:
    """Why a transaction ended like this."""
    if has_changed:
        return SOURCE_CHANGED
    if outcome is Outcome.FINISHED:
        return ALL_CONFIRMED
    if not has_objects:
        return NO_OBJECTS
    if outcome is Outcome.EXPIRED and not is_counted:
        return UNKNOWN_RECEIVERS
    return _BY_LENDER.get(outcome, RECEIVER_FAILED)
