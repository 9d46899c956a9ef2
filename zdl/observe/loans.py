"""Loans: what a cell says about what it lends: who holds it, how old it is, how far each is, who is waited for."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class HolderFacts:
    """One receiver of one transaction.

    Attributes:
        fqcn: its name.
        state: ``pulling``; ``idle``: it has begun, is not at it now, and has not all; ``cut off``: it has no way to the origin;
            or how it ended, an `Outcome` in a word.
        bytes_done: verified and stored.
        bytes_served: asked for, and answered.
        silent_s: since it last said anything.
    """

    fqcn: str
    state: str
    bytes_done: int
    bytes_served: int
    silent_s: float


@dataclass(frozen=True, slots=True)
class LoanFacts:
    """One open transaction.

    Attributes:
        id: of the transaction, 32 hexadecimal digits; no secret, which is in the refs alone.
        what: the file's name, the kind of its one ref, or the type of the object; empty where many were added.
        names: under which it is published here.
        refs: labels of its first refs, as the receivers' own reports name them.
        refs_count: all of them.
        state: ``open``; ``filling``: objects are still added to it.
        bytes_total: of all objects.
        age_s: since it was opened.
        lease_left_s: until it ends, if nobody asks, keeps or confirms.
        holders: those who have begun, at most so many as are told.
        holders_count: all of them.
        wanted: how many are waited for in all; 0: it ends by its lease, or by hand.
        finished: how many have all of it.
        waits_for: those of them that were named and have come to no end, at most so many as are told.
    """

    id: str
    what: str
    names: tuple[str, ...]
    refs: tuple[str, ...]
    refs_count: int
    state: str
    bytes_total: int
    age_s: float
    lease_left_s: float
    holders: tuple[HolderFacts, ...]
    holders_count: int
    wanted: int
    finished: int
    waits_for: tuple[str, ...]

    def plain(self) -> dict[str, object]:
        """Dicts, lists and scalars only."""
        return asdict(self)
