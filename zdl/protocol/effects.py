"""What a machine asks of its shell, as values, performed in list order; and how things end.

`Settled` comes last and exactly once per conversation. Comparing lists of effects with ``==`` is how
machines are tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from zdl.errors import ZdlError
from zdl.protocol.hot import hot_value
from zdl.protocol.messages import Ask, Below, Body, Message, Notice, Reply, Request, Role, Routed, Transit
from zdl.protocol.pushing import Open

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


@hot_value
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
    """A link that was up has ended; `is_clean`: both sides have heard all that the other had said over it."""

    link: int
    fqcn: str
    is_parent: bool
    why: str
    role: Role = Role.CHILD
    is_clean: bool = False


@dataclass(frozen=True, slots=True)
class SideUp:
    """A link beside the one that leads to `fqcn` is welcomed."""

    link: int
    fqcn: str


@dataclass(frozen=True, slots=True)
class SideDown:
    """Such a link has ended."""

    link: int
    fqcn: str
    why: str


@dataclass(frozen=True, slots=True)
class PeerStalled:
    """Nothing came over a link for longer than it should: its peer is stopped or cut off, or will be back."""

    link: int
    fqcn: str
    is_parent: bool
    silent_s: float


@dataclass(frozen=True, slots=True)
class PeerBack:
    """A peer that had stalled is heard again."""

    link: int
    fqcn: str
    is_parent: bool


@dataclass(frozen=True, slots=True)
class Told:
    """A neighbour has said something about the tree: it is for `Subtree`."""

    link: int
    message: Below


@dataclass(frozen=True, slots=True)
class SubtreeUp:
    """A cell below this one has come up; `by` is the child that leads there, or the cell itself."""

    fqcn: str
    by: str


@dataclass(frozen=True, slots=True)
class SubtreeDown:
    """A cell below this one has gone down, or the way to it has."""

    fqcn: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class SubtreeFull:
    """More cells are below this one than it notes: those beyond `subtree_max` come up and go down unseen."""

    value: int


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A link that we dialled did not come up; `error` says why."""

    link: int
    address: str
    error: ZdlError


# --- messages -----------------------------------------------------------------------------------


@hot_value
class Post:
    """Hand a message of ours to the switch."""

    message: Routed


@hot_value
class Arrived:
    """A message for this cell: hand it to the machine that its kind belongs to."""

    message: Routed


@dataclass(frozen=True, slots=True)
class Unreachable:
    """From `at`, `name` and all below it (or, `beyond`, all but that; or, `only`, itself alone) cannot be reached any more.

    Attributes:
        up_to: requests of this cell with a higher id did not go over what was lost; 0: any of them may have.
        spared: cells that are linked directly, each with the highest id of a request that went to it along the tree;
            later ones, and what they ask of us, are not concerned.
        asked: requests of others that came over direct links, by their ids: where `only`, those that came over the lost one,
            and of what we were asked they alone are concerned; else all, and they are not.
    """

    at: str
    name: str
    beyond: bool
    why: str
    up_to: int = 0
    only: bool = False
    spared: tuple[tuple[str, int], ...] = ()
    asked: tuple[int, ...] = ()


@hot_value
class Handle:
    """Run the handler for a request or a notice."""

    message: Request | Notice


@dataclass(frozen=True, slots=True)
class CallProgressed:
    """The callee of a call says how far it is; the wait has begun anew."""

    id: int
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PassedOn:
    """A message for somebody else was passed on, or, with an error, could not be; asked for by `Switch.tells_transit`."""

    message: Transit
    error: ZdlError | None


@dataclass(frozen=True, slots=True)
class Abort:
    """The caller of the request (origin, id), whose handler runs, does not wait any more."""

    origin: str
    id: int


# --- objects ------------------------------------------------------------------------------------


@hot_value
class Serve:
    """Read the byte range that was asked for, and send it as a `Chunk`."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Release:
    """Nobody may pull this offer any more: let go of its object."""

    offer_id: bytes


@hot_value
class Progressed:
    """`bytes_done` of `bytes_total` of a pull are verified and stored."""

    pull_id: int
    bytes_done: int
    bytes_total: int


@dataclass(frozen=True, slots=True)
class Finish:
    """All bytes of a pull are stored: make them last, then say `Pulls.finished`, or cancel the pull."""

    pull_id: int


@dataclass(frozen=True, slots=True)
class ReceiverSettled:
    """One receiver of a transaction has come to its end; `why`: the code of the error that it told, or was told."""

    transaction_id: bytes
    receiver: str
    outcome: Outcome
    why: str = ""


@dataclass(frozen=True, slots=True)
class OfferHad:
    """A receiver has all of one offer, whose lender wants to know."""

    transaction_id: bytes
    offer_id: bytes
    receiver: str


@dataclass(frozen=True, slots=True)
class Detour:
    """Leave the direct link to this origin, over which nothing comes any more: what was asked is asked along the tree."""

    origin: str


@dataclass(frozen=True, slots=True)
class SpreadOver:
    """A pull is to be spread over so many links to its origin; see `zdl.protocol.spread`."""

    pull_id: int
    origin: str
    count: int


# --- streams ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PushMoved:
    """The receiver of a push has gone on.

    Attributes:
        push_id: which.
        received: items below this are there.
        consumed: items below this are done with.
        bytes_consumed: theirs in all, as credit counts them.
        replies: to the items from ``consumed - len(replies)`` on.
        is_free: nothing that was sent is on its way.
    """

    push_id: int
    received: int
    consumed: int
    bytes_consumed: int
    replies: tuple[Body, ...]
    is_free: bool


@dataclass(frozen=True, slots=True)
class IntakeOpened:
    """Somebody begins to push to us: `Intakes.accept` it or refuse by `Intakes.finish`."""

    message: Open


@dataclass(frozen=True, slots=True)
class IntakeArrived:
    """The next items, in order, each once."""

    key: tuple[str, int]
    items: tuple[Body, ...]


@dataclass(frozen=True, slots=True)
class IntakeComplete:
    """All items have arrived; `Intakes.finish` says what became of them."""

    key: tuple[str, int]


# --- ends ---------------------------------------------------------------------------------------


@hot_value
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
class PushSettled:
    """The receiver has finished, with its result; or `error` says why not."""

    push_id: int
    error: ZdlError | None
    body: Body


@dataclass(frozen=True, slots=True)
class IntakeSettled:
    """What was pushed to us has ended before `Intakes.finish`: the sender broke off, or is lost."""

    key: tuple[str, int]
    error: ZdlError


@dataclass(frozen=True, slots=True)
class TransactionSettled:
    """A transaction has ended.

    Attributes:
        transaction_id: which.
        outcome: how.
        receivers: the truth about each.
        confirmed: how many bytes those who began have.
        reasons: the codes of the errors of those who failed.
        why: the code of the error that ended it, if one of the origin did.
    """

    transaction_id: bytes
    outcome: Outcome
    receivers: tuple[tuple[str, Outcome], ...]
    confirmed: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    reasons: tuple[tuple[str, str], ...] = ()
    why: str = ""


Effect = (Dial | Hang | Send | PeerUp | PeerDown | SideUp | SideDown | SpreadOver
          | PeerStalled | PeerBack | Told | SubtreeUp | SubtreeDown | SubtreeFull
          | DialFailed | Post | Arrived | Unreachable
          | Handle | CallProgressed | PassedOn | Abort | Serve | Release | Progressed | Finish | Detour | ReceiverSettled
          | CallSettled | PullSettled | PullForgotten | OfferHad | TransactionSettled
          | PushMoved | PushSettled | IntakeOpened | IntakeArrived | IntakeComplete | IntakeSettled)
