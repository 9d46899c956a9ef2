"""Making: one answer out of the pieces that a user's code produces: called until it is full, checked, packed, lent."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from zdl.cell.handlers import Raised, guarded
from zdl.download.downloadable import Downloadable, ProduceRC, State
from zdl.download.pieces import Piece
from zdl.download.sizes import bytes_of
from zdl.errors import Closed, ZdlError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, Part, pack
from zdl.objects.typetable import TypeTable
from zdl.options import PackOptions
from zdl.refs import Source

# Pieces in one answer, and how long one is collected: a receiver on the same host asks anew in well under a millisecond.
PIECES_MAX = 256
COLLECT_S = 0.01

# Lends the large leaves of an answer; returns what ends that, too.
Lend = Callable[[Manifest, Sequence[Lent]], tuple[Source, Callable[[], None]]]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Some pieces, packed.

    Attributes:
        frames: the packed list of them.
        lent: the offer of their large leaves.
        states: those that came with pieces of data, in order.
        nbytes: of their data.
        after: the state to go on from.
        is_last: there are no more.
        is_good: it does not end with an error.
        end: ends the offer.
    """

    frames: tuple[Part, ...]
    lent: bytes | None = None
    states: tuple[State, ...] = ()
    nbytes: int = 0
    after: State = field(default_factory=dict)
    is_last: bool = False
    is_good: bool = True
    end: Callable[[], None] | None = None


class Maker:
    """Makes the answers of one object.

    Threads: all methods from any thread that may run users' code.

    Args:
        downloadable: the user's.
        packing: how pieces are packed.
        bytes_max: an answer with so many bytes is full.
        lend: lends what is large.
        types: what may travel in pieces.
    """

    def __init__(self, downloadable: Downloadable, *, packing: PackOptions, bytes_max: int, lend: Lend,
                 types: TypeTable = TypeTable()) -> None:
        self._downloadable = downloadable
        self._packing = packing
        self._bytes_max = bytes_max
        self._lend = lend
        self._types = types

    def nothing(self) -> Answer:
        """The answer after the last one."""
        return Answer(pack([], options=self._packing).parts, is_last=True)

    def key_of(self, state: State) -> bytes:
        """Equal for equal states."""
        return bytes(pack(state, options=self._packing).parts[0])

    def make(self, requester: str, state: State, pieces_max: int, is_over: Callable[[], bool]) -> Answer:
        """Call the user's code until the answer is full; what that does wrong is the last piece.

        Args:
            requester: for whom.
            state: to go on from.
            pieces_max: how many.
            is_over: whether nobody wants more of them.

        Raises:
            Closed: the cell is closed.
        """
        pieces: list[Piece] = []
        nbytes = 0
        until = time.monotonic() + COLLECT_S
        while True:
            piece = self._piece(requester, state)
            pieces.append(piece)
            code, data, state = piece
            if code != ProduceRC.OK:
                break
            nbytes += bytes_of(data)
            if len(pieces) >= pieces_max or nbytes >= self._bytes_max or time.monotonic() >= until or is_over():
                break
        return self._packed(pieces, nbytes)

    def _piece(self, requester: str, state: State) -> Piece:
        """One piece; what the user's code raises becomes an error piece."""
        made = guarded(lambda: _checked(self._downloadable.produce(dict(state), requester)))
        if isinstance(made, Raised):
            return ProduceRC.ERROR, f"{made.kind}: {made.text}", {}
        return made

    def _packed(self, pieces: Sequence[Piece], nbytes: int) -> Answer:
        ends: list[Callable[[], None]] = []

        def lend(manifest: Manifest, lent: Sequence[Lent]) -> Source:
            """The large leaves, once all else has succeeded."""
            source, end = self._lend(manifest, lent)
            ends.append(end)
            return source

        packing = self._packing
        is_large = nbytes > packing.beside_bytes_max
        if is_large:
            packing = replace(packing, beside_bytes_max=packing.inline_bytes_max)
        try:
            packed = pack([list(piece) for piece in pieces], options=packing, types=self._types,
                          lend=lend if is_large else None)
        except Closed:
            raise
        except (ZdlError, RecursionError) as error:
            return self._packed([(ProduceRC.ERROR, str(error), {})], 0)
        code, _, after = pieces[-1]
        states = tuple(state for code, _, state in pieces if code == ProduceRC.OK)
        return Answer(packed.parts, packed.source.offer_id if packed.source else None, states, nbytes, after,
                      is_last=code != ProduceRC.OK, is_good=code != ProduceRC.ERROR, end=ends[0] if ends else None)


def _checked(made: object) -> Piece:
    """What a `produce` has returned, if it is what it should be."""
    if not isinstance(made, tuple) or len(made) != 3:
        raise TypeError(f"produce must return a code, data and a state, not {type(made).__name__}")
    code, data, state = made
    if code == ProduceRC.EOF:
        return ProduceRC.EOF, None, {}
    if code == ProduceRC.ERROR:
        return ProduceRC.ERROR, "it said so" if data is None else str(data), {}
    if code != ProduceRC.OK:
        raise ValueError(f"produce returned the code {code!r}, which is none of ProduceRC")
    if not isinstance(state, dict):
        raise TypeError(f"produce must return a dict as its state, not {type(state).__name__}")
    return ProduceRC.OK, data, state
