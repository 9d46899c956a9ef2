"""Downloadable: what a user implements to lend something of his own, as a sequence of pieces that his code makes.

A receiver's pieces are a chain of states: `produce` is given a state, and returns a piece and the state that leads to
the next one; the first state is empty. Nobody but the object itself knows what a state means::

    {} ──produce──▶ OK, data, {"at": 1} ──produce──▶ OK, data, {"at": 2} ──produce──▶ EOF, None, {}

The hooks, in the order in which they are called::

    set_transaction ─▶ produce … ─▶ downloaded_to_one, per receiver ─▶ downloaded_to_all ─▶ transaction_done ─▶ release

All but `set_transaction` run on threads for users' code, under no lock. What they raise is logged and hurts nobody else;
what `produce` raises is told to the receiver that asked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Final

State = dict[str, Any]
# The code, the data of the piece, and the state that leads to the next one.
Produced = tuple[str, Any, State]


class ProduceRC:
    """What `produce` says of a piece: the first half of what it returns."""

    OK: Final = "ok"
    ERROR: Final = "error"
    EOF: Final = "eof"


class DownloadStatus:
    """How it went with one receiver."""

    SUCCESS: Final = "success"
    FAILED: Final = "failed"


class TransactionDoneStatus:
    """How a transaction ended, in the ancestor's three words; its outcome says more.

    ``finished``: all receivers that are counted have come to an end; ``timeout``: its lease ran out; ``deleted``: it was
    ended by its cell, for whatever reason.
    """

    FINISHED: Final = "finished"
    TIMEOUT: Final = "timeout"
    DELETED: Final = "deleted"


class Downloadable(ABC):
    """An object that is lent piece by piece.

    A piece is any object that may travel in a message, of any size. Each is made when a receiver is about to want it, once
    per receiver however often that one asks; see `CacheableObject` for pieces that are the same for all.

    Threads: `produce` is called for different receivers at once, for one receiver strictly in order. No thread is waited
        for but by those who want its piece, and by the end of the transaction.
    Lifetime: of a transaction, to which it is added once. `release` is the last call.

    Args:
        obj: what is lent; kept as `base_obj`, and given to who is told of the end of the transaction.
    """

    def __init__(self, obj: Any = None) -> None:
        self.base_obj = obj

    def set_transaction(self, tx_id: str, ref_id: str) -> None:
        """It was added to a transaction. Called by the thread that adds it; what it raises is raised there.

        Args:
            tx_id: names the transaction.
            ref_id: names the object in it; neither of the two is a right to pull it.
        """

    @abstractmethod
    def produce(self, state: State, requester: str) -> Produced:
        """Make the piece that a state leads to.

        Args:
            state: as returned with the piece before, or as the receiver's `consume` has made of it; empty for the first.
            requester: FQCN of the receiver.

        Returns:
            `ProduceRC.OK`, the data, and a new state; or `ProduceRC.EOF`: there are no more, data and state do not count;
            or `ProduceRC.ERROR`: it cannot be done, the data is the reason in words.
        """

    def downloaded_to_one(self, to_receiver: str, status: str) -> None:
        """How it went with one receiver, once for each that had begun or was named.

        A success is told at once. A failure is told when the transaction ends: before, a receiver may come again.

        Args:
            to_receiver: its FQCN.
            status: of `DownloadStatus`; `SUCCESS` says that it has consumed all of it.
        """

    def downloaded_to_all(self) -> None:
        """All receivers that are counted have consumed all of it; never called when none is counted."""

    def transaction_done(self, transaction_id: str, status: str) -> None:
        """The transaction has ended; no `produce` is running, and none will be called.

        Args:
            transaction_id: as given to `set_transaction`.
            status: of `TransactionDoneStatus`.
        """

    def release(self) -> None:
        """The last call: let go of what is large. By default, of `base_obj`."""
        self.base_obj = None
