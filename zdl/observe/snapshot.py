"""Snapshot: what a cell says about itself when asked, as plain values that travel and print."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """One link.

    Attributes:
        fqcn: the cell at the other end.
        lane: ``control`` or ``data``.
        role: ``parent``, ``child`` or ``direct``.
        state: ``up``, ``stalled``, ``challenged`` or ``greeting``.
        address: what was dialled; empty where the other side dialled.
    """

    fqcn: str
    lane: str
    role: str
    state: str
    address: str


@dataclass(frozen=True, slots=True)
class TrafficFacts:
    """What has moved between this cell and another one, on one lane; bytes are those of bodies."""

    fqcn: str
    lane: str
    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int


@dataclass(frozen=True, slots=True)
class TransferFacts:
    """One pull; see `zdl.download.puller.Transfer`.

    Attributes:
        age_s: since it began.
        silent_s: since something of it came, or it ended.
    """

    origin: str
    label: str
    bytes_total: int
    bytes_done: int
    way: str
    why: str
    seconds: float | None
    error: str
    why_not_shared: str = ""
    age_s: float = 0.0
    silent_s: float = 0.0


@dataclass(frozen=True, slots=True)
class RunningFacts:
    """Code of a user that runs for those who pull: what it is, and since when; see `zdl.download.workers.Running`."""

    what: str
    age_s: float


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """The process that a cell lives in.

    Attributes:
        pid: its number.
        cpu_s: user and system time so far.
        rss_bytes: resident memory now.
        rss_peak_bytes: the most it was.
    """

    pid: int
    cpu_s: float
    rss_bytes: int
    rss_peak_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One cell at one moment; `below_count`: how many cells are below it, at any depth."""

    fqcn: str
    incarnation: str
    addresses: tuple[str, ...]
    data_addresses: tuple[str, ...]
    links: tuple[LinkFacts, ...]
    traffic: tuple[TrafficFacts, ...]
    transfers: tuple[TransferFacts, ...]
    lent_count: int
    parent_error: str
    process: ProcessFacts
    below_count: int = 0
    running: tuple[RunningFacts, ...] = ()

    def plain(self) -> dict[str, object]:
        """Dicts, lists and scalars only."""
        return asdict(self)
