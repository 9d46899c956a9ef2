"""Service: what may be mounted on a cell, and the two things that a cell asks of its services.

Services stand above the cell and use it by the same door as users: handlers, requests and the data lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from zdl.cell.lending import Transaction
from zdl.cell.signal import Signal
from zdl.errors import OptionError
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent
from zdl.options import PackOptions
from zdl.refs import Holder, Source

# Whether refs are pulled: to memory, to a disk, or not at all.
Resolving = bool | Literal["disk"]


class Service(Protocol):
    """Something that lives as long as its cell."""

    def close(self, timeout_s: float) -> list[str]:
        """End. Returns, in words, what did not finish in time."""


class Scope(Protocol):
    """What one message lends: opened after packing has succeeded, tied to the message's fate."""

    @property
    def transaction(self) -> Transaction | None:
        """What was opened; None before, and where the lender tells nobody of it."""

    def lend(self, manifest: Manifest, lent: Sequence[Lent]) -> Source:
        """Open the transaction."""

    def undeliverable(self) -> None:
        """The message did not reach its target: end what it lent, at once."""

    def excuse(self, count: int) -> None:
        """It did not reach so many of its targets: nobody waits for them to pull."""

    def miss(self, target: str) -> None:
        """The way to this target was lost, maybe after it had the message: if it does not ask soon, it is not waited for."""


class Lender(Protocol):
    """The service that lends what is too large to travel in a message."""

    def scope(self, receivers: Sequence[str] | int, *, targets: Sequence[str] = (), lease_s: float | None = None,
              packing: PackOptions = PackOptions()) -> Scope:
        """A scope for one message.

        Args:
            receivers: by name, or so many.
            targets: to whom it goes.
            lease_s: what nobody uses for so long is not lent any more; None: as the cell's options say.
            packing: what keeps it from changing.
        """

    def holder(self, heard: Callable[[int, int], object] | None = None) -> Holder:
        """What refs are bound to when they are unpacked; `heard` is told of their bytes that come."""

    def resolve(self, body: object, timeout_s: float | None = None, *, abort: Signal | None = None,
                progress: Callable[[int, int], None] | None = None, renew_s: float | None = None, to: str = "memory") -> object:
        """The same object with its refs replaced by what they stand for.

        Args:
            body: an unpacked object.
            timeout_s: how long it may take; None as long as bytes come.
            abort: ends it with `Cancelled`.
            progress: called with bytes done and in all, from the data lane: it must be quick.
            renew_s: whenever bytes come it may take so long from then.
            to: ``memory`` or ``disk``.
        """


def target_of(resolve: Resolving) -> str:
    """Where refs are resolved to.

    Raises:
        OptionError: it says neither whether refs are pulled nor where to.
    """
    if isinstance(resolve, bool):
        return "memory"
    if resolve != "disk":
        raise OptionError(name="resolve", value=repr(resolve), allowed="True, False or 'disk'")
    return resolve
