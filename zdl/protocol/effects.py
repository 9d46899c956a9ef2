"""What a machine asks of its shell, as values, performed in list order; and how things end.

`Settled` comes last and exactly once per conversation. Comparing lists of effects with ``==`` is how
machines are tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from zdl.errors import ZdlError
from zdl.protocol.messages import Ask, Message, Notice, Reply, Request, Role, Routed, Transit

# The link of a cell to itself: what is sent on it is encoded, decoded and received like anything else.
SELF = 0


class Outcome(Enum):
    """How something ended. One word list for calls, pulls, transactions and their receivers."""

    FINISHED = "finished"
    PARTIAL = "partial"
    FAILED = "failed"
    EXPIRED = "expired"
    DELETED = "deleted"
    UNDELIVERABLE = "undeliverable"
    CANCELLED = "cancelled"
    LOST = "lost"
    CLOSED = "closed"


# --- links --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    """Open a connection to `address` and call it `link`."""

    link: int
    address: str


@dataclass(frozen=True, slots=True)
class Hang:
    """Close the connection called `link`, after what was sent on it before."""

    link: int


@dataclass(frozen=True, slots=True)
class Send:
    """Hand a message to a link."""

    link: int
    message: Message | Transit


@dataclass(frozen=True, slots=True)
class PeerUp:
    """A link is welcomed: `fqcn` can be reached over it."""

    link: int
    fqcn: str
    is_parent: bool
    role: Role
    data_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PeerDown:
    """A link that was up has ended, and no other link to the same cell took its place."""

    link: int
    fqcn: str
    is_parent: bool
    why: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A link that we dialled did not come up; `error` says why."""

    link: int
    address: str
    error: ZdlError


# --- messages -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Post:
    """Hand a message of ours to the switch."""

    message: Routed


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message for this cell: hand it to the machine that its kind belongs to."""

    message: Routed


@dataclass(frozen=True, slots=True)
class Unreachable:
    """From `at`, `name` and all below it (or, `beyond`, all but that) cannot be reached any more."""

    at: str
    name: str
    beyond: bool
    why: str


@dataclass(frozen=True, slots=True)
class Handle:
    """Run the handler for a request or a notice."""

    message: Request | Notice


@dataclass(frozen=True, slots=True)
class Abort:
    """The caller of the request (origin, id), whose handler runs, does not wait any more."""

    origin: str
    id: int


# --- objects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Serve:
    """Read the byte range that was asked for, and send it as a `Chunk`."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Release:
    """Nobody may pull this offer any more: let go of its object."""

    offer_id: bytes


@dataclass(frozen=True, slots=True)
class Progressed:
    """`bytes_done` of `bytes_total` of a pull are verified and stored."""

    pull_id: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class ReceiverSettled:
    """One receiver of a transaction has come to its end."""

    transaction_id: bytes
    receiver: str
    outcome: Outcome


# --- ends ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallSettled:
    """A call has its reply or its error, exactly one of them."""

    id: int
    reply: Reply | None
    error: ZdlError | None


@dataclass(frozen=True, slots=True)
class PullSettled:
    """All bytes are verified and stored, or `error` says why not."""

    pull_id: int
    error: ZdlError | None


@dataclass(frozen=True, slots=True)
class PullForgotten:
    """The origin has noted the end of the pull, or is gone: the machine remembers it no more."""

    pull_id: int


@dataclass(frozen=True, slots=True)
class TransactionSettled:
    """A transaction has ended; `receivers` tells the truth about each."""

    transaction_id: bytes
    outcome: Outcome
    receivers: tuple[tuple[str, Outcome], ...]


Effect = (Dial | Hang | Send | PeerUp | PeerDown | DialFailed | Post | Arrived | Unreachable | Handle | Abort | Serve
          | Release | Progressed | ReceiverSettled | CallSettled | PullSettled | PullForgotten | TransactionSettled)
