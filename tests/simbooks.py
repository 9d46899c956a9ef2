"""What the simulation writes down: its options, its connections, and what has become of calls, pulls and offers.

The books are the truth that the machines do not know; `sim.Sim` holds the machines against them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from zdl.errors import ZdlError
from zdl.options import CallOptions, LinkOptions, OfferOptions, PullOptions, StreamOptions
from zdl.protocol.audiences import UNLIMITED, Budgets
from zdl.protocol.effects import Outcome, TransactionSettled
from zdl.protocol.messages import Part, Reply
from zdl.protocol.offers import Audience
from zdl.refs import Source

CONTROL, DATA = 0, 1
# How long an incumbent has to show that it is alive.
CHALLENGE_S = 0.3
LANES = ("control", "data")
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class SimOptions:
    """The options of every simulated cell: tiny chunks, and times in proportion to the real ones.

    A way that can recover does so well within ``lost_timeout_s``: a cell that is killed in silence and starts again
    within 2 s is let in after 1.75 s of silence and one pause of redialling.
    """

    links: LinkOptions = field(default_factory=lambda: LinkOptions(
        heartbeat_s=1.0, hello_timeout_s=1.0, redial_min_s=0.05, redial_max_s=0.8, challenge_s=CHALLENGE_S,
        direct_after_count=2, direct_within_s=3.0, direct_idle_s=0.6, direct_retry_s=0.4, introduction_s=0.8))
    calls: CallOptions = field(default_factory=CallOptions)
    pulls: PullOptions = field(default_factory=lambda: PullOptions(
        chunk_bytes=128, window_bytes_min=256, window_bytes_max=1024, direct_timeout_s=0.3, retry_s=1.0,
        stall_timeout_s=20.0, lost_timeout_s=9.0, keep_alive_s=1.0))
    offers: OfferOptions = field(default_factory=lambda: OfferOptions(lost_grace_s=8.5, tombstone_s=30.0))
    streams: StreamOptions = field(default_factory=lambda: StreamOptions(
        window_bytes=100_000, stall_timeout_s=20.0, silent_timeout_s=15.0, lost_timeout_s=9.0, keep_alive_s=1.0))


PATIENT = SimOptions()
# Where everybody gives up so soon that many outages outlast it.
IMPATIENT = replace(PATIENT, pulls=replace(PATIENT.pulls, lost_timeout_s=1.2, stall_timeout_s=4.0),
                    offers=replace(PATIENT.offers, lost_grace_s=0.5),
                    streams=replace(PATIENT.streams, lost_timeout_s=1.2, silent_timeout_s=4.0, stall_timeout_s=4.0))
# Silence after which a transport tells that a connection of the data lane is dead.
KEEPALIVE_S = 2.0


class Life(Protocol):
    """One life of a cell, as its network and the books see it."""

    fqcn: str
    is_alive: bool
    wires: tuple[dict[int, Wire], dict[int, Wire]]
    all_wires: list[Wire]
    next_accepted: list[int]

    def receive(self, lane: int, link: int, header: bytes, body: tuple[Part, ...]) -> None:
        """A message came over a link."""

    def broken(self, lane: int, link: int, why: str) -> None:
        """A connection has ended."""


@dataclass(slots=True, eq=False)
class Wire:
    """One connection: `ends[0]` dialled `ends[1]`; `links` are its numbers at both ends."""

    lane: int
    ends: tuple[Life, Life | None]
    links: list[int | None]
    clear_at: list[float] = field(default_factory=lambda: [0.0, 0.0])
    is_open: bool = True
    is_mute: bool = False
    is_hurt: bool = False
    hung_by: int | None = None
    held: list[tuple[int, bytes, tuple[Part, ...]]] | None = None

    def __str__(self) -> str:
        one, other = self.ends
        return f"{LANES[self.lane]} {one.fqcn} – {'nobody' if other is None else other.fqcn}"


@dataclass(slots=True)
class Noise:
    """How often single messages meet with an accident, and until when."""

    until: float = 0.0
    lanes: tuple[bool, bool] = (True, True)
    lose: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0


@dataclass(slots=True)
class Call:
    """One call, and what is to become of it."""

    caller: Life
    target: str
    does: str
    delay_s: float
    timeout_s: float
    started_at: float
    path: tuple[Wire, ...] | None
    has_parent: bool
    is_cancelled: bool = False
    renewed_at: float = 0.0
    settled_at: float | None = None
    reply: Reply | None = None
    error: ZdlError | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing has happened to its way, nor to a direct one that there may be."""
        return self.path is not None and not any(wire.is_hurt for wire in (*self.path, *self._direct()))

    def _direct(self) -> list[Wire]:
        return [wire for wire in self.caller.all_wires if wire.lane == CONTROL and any(
            end is not None and end.fqcn == self.target for end in wire.ends)]


@dataclass(slots=True)
class Lending:
    """One offer's object."""

    data: bytes
    transaction: Transaction
    is_released: bool = False
    breaks: bool = False
    changes_at: float = NEVER
    is_counted: bool = True
    had_by: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Transaction:
    """One transaction, as its lender sees it."""

    id: bytes
    origin: Life
    audience: Audience
    lease_s: float
    budgets: Budgets = UNLIMITED
    sources: tuple[Source, ...] = ()
    waits_since: float = 0.0
    is_held: bool = False
    leaves: list[Source] = field(default_factory=list)
    withdrawn: dict[Source, float] = field(default_factory=dict)
    told: list[tuple[str, Outcome, str, float]] = field(default_factory=list)
    ended_at: float | None = None
    is_ended_early: bool = False
    settled: TransactionSettled | None = None

    def expired_at(self, receiver: str) -> float:
        """When a budget of this receiver ran out."""
        return min((at for name, outcome, _, at in self.told if name == receiver and outcome is Outcome.EXPIRED), default=NEVER)


@dataclass(slots=True)
class Pull:
    """One pull."""

    receiver: Life
    source: Source
    ranges: tuple[tuple[int, int], ...]
    started_at: float
    place: bytearray
    has_way: bool
    is_finished: bool = True
    stored: dict[int, int] = field(default_factory=dict)
    told: int = 0
    is_cancelled: bool = False
    failed_with: str = ""
    is_slow: bool = False
    is_settled: bool = False
    settled_at: float | None = None
    forgotten_at: float | None = None
    error: ZdlError | None = None


@dataclass(slots=True)
class Push:
    """One stream, at both its ends.

    Attributes:
        how: it is taken in: ``refused`` when it is opened, ``asleep``: nothing is ever consumed, ``failing`` when all is here.
    """

    sender: Life
    target: str
    items: list[bytes]
    started_at: float
    has_way: bool
    how: str = ""
    is_cancelled: bool = False
    taken: list[bytes] = field(default_factory=list)
    receiver: Life | None = None
    is_taken_whole: bool = False
    taking_ended_at: float | None = None
    settled_at: float | None = None
    error: ZdlError | None = None
