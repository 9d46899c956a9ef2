"""Pieces: what a receiver and an origin say to each other about an object that is produced piece by piece.

Participants. The **receiver** pulls one object with a `Consumer`; the **origin** makes its pieces with a `Downloadable`.

Goals. Each piece is made once per receiver, however often it is asked for. What is small comes in the answer itself; large
leaves are lent, and come over the data lane, verified, of any size. That the receiver has consumed it all is confirmed as
for any other object: to the transaction, the object is an offer of one byte, the **marker**. A receiver asks for it first, so
that it counts as having begun; keeps it alive while it consumes; and confirms it when its consumer has taken in the last
piece, or drops it when that failed.

A download is a row of **answers**, numbered from 0, each with one or more pieces::

    receiver                                            origin
       ── ASK the marker ───────────────────────────────▶ it has begun
       ── request zdl/produce: number 0 ────────────────▶ produce, produce, …
       ◀────────────────────────────── answer 0: pieces ──
       ── request zdl/produce: number 1, consumed 1 ────▶ answer 0 is forgotten
       ◀─────────────────────────── answer 1: …, EOF ──
       ── notice zdl/produce: is_over ──────────────────▶ all is forgotten
       ── CONFIRM the marker ───────────────────────────▶ it has it

A request is a map:

==============  ==========================================================================================
``offer``       16 bytes: which object
``secret``      16 bytes: the right to it
``token``       16 random bytes: which download of this receiver; it may have several
``number``      which answer is wanted
``consumed``    how many answers have been consumed: the first so many are not asked for again
``state``       the state to go on from, when the consumer makes states of its own; the answer then has one piece. Null:
                the state that the producer gave last
``is_over``     this download has ended; nothing is wanted
==============  ==========================================================================================

The body of an answer is ``[lent, frame, …]``: the packed list of the pieces, each ``[code, data, state]``, and the id of the
offer that holds its large leaves, or null. Instead of it, ``[code, facts]`` in a map under ``error``: a download error.
An answer without pieces says that the one before was the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zdl.download.downloadable import ProduceRC, State
from zdl.errors import DecodeError, ZdlError, from_wire, to_wire
from zdl.refs import OFFER_ID_BYTES, SECRET_BYTES

PRODUCE_TOPIC = "produce"
TOKEN_BYTES = 16
# An answer number fits into the 63 bits of the wire with room for sums.
NUMBER_MAX = 1 << 62
CODES = (ProduceRC.OK, ProduceRC.EOF, ProduceRC.ERROR)

# The code, the data, and the state that goes with it.
Piece = tuple[str, Any, State]


@dataclass(frozen=True, slots=True)
class Question:
    """What a receiver asks for; see above."""

    offer_id: bytes
    secret: bytes = field(repr=False)
    token: bytes
    number: int
    consumed: int
    state: State | None
    is_over: bool = False

    @property
    def is_chained(self) -> bool:
        """Whether the producer's own states are gone on from."""
        return self.state is None

    def plain(self) -> dict[str, object]:
        """As it travels."""
        return {"offer": self.offer_id, "secret": self.secret, "token": self.token, "number": self.number,
                "consumed": self.consumed, "state": self.state, "is_over": self.is_over}

    @classmethod
    def of(cls, body: object) -> Question:
        """What came.

        Raises:
            DecodeError: it is none.
        """
        if not isinstance(body, dict):
            raise DecodeError(what=f"a question for pieces is a map, not {type(body).__name__}")
        for name, length in (("offer", OFFER_ID_BYTES), ("secret", SECRET_BYTES), ("token", TOKEN_BYTES)):
            value = body.get(name)
            if not isinstance(value, bytes) or len(value) != length:
                raise DecodeError(what=f"the {name} in a question for pieces is not {length} bytes")
        for name in ("number", "consumed"):
            value = body.get(name)
            if type(value) is not int or not 0 <= value <= NUMBER_MAX:
                raise DecodeError(what=f"the {name} in a question for pieces is not within 0…2**62")
        state = body.get("state")
        if state is not None and not isinstance(state, dict):
            raise DecodeError(what=f"the state in a question for pieces is a map or null, not {type(state).__name__}")
        return cls(body["offer"], body["secret"], body["token"], body["number"], body["consumed"], state,
                   body.get("is_over") is True)


def error_answer(error: ZdlError) -> dict[str, object]:
    """An answer that says why there is none."""
    code, facts = to_wire(error)
    return {"error": [code, dict(facts)]}


def frames_of(answer: object, origin: str) -> tuple[bytes | None, list[bytes]]:
    """The offer that an answer lends, and the frames of its pieces.

    Raises:
        ZdlError: the one that the origin answered instead.
        DecodeError: it is no answer.
    """
    if isinstance(answer, dict):
        told = answer.get("error")
        if isinstance(told, list) and len(told) == 2 and isinstance(told[0], str) and isinstance(told[1], dict):
            raise from_wire(told[0], told[1], at=origin)
    if not isinstance(answer, list) or len(answer) < 2 or not all(isinstance(frame, bytes) for frame in answer[1:]):
        raise DecodeError(what=f"{origin} answered a question for pieces with something else")
    lent = answer[0]
    if lent is not None and (not isinstance(lent, bytes) or len(lent) != OFFER_ID_BYTES):
        raise DecodeError(what=f"{origin} names no offer in its answer to a question for pieces")
    return lent, answer[1:]


def pieces_of(unpacked: object, origin: str) -> list[Piece]:
    """The pieces of an answer.

    Raises:
        DecodeError: they are none.
    """
    if not isinstance(unpacked, list):
        raise DecodeError(what=f"{origin} sent no list of pieces")
    for piece in unpacked:
        is_piece = isinstance(piece, list) and len(piece) == 3 and isinstance(piece[2], dict)
        if not is_piece or piece[0] not in CODES:
            raise DecodeError(what=f"{origin} sent something that is no piece")
    return [(piece[0], piece[1], piece[2]) for piece in unpacked]
