"""Nearby: sinks of pulls whose bytes are all on this host from the beginning.

Such a pull asks for nothing. What is left is to finish, and that is to copy the bytes from where they lie to where their user
wants them. So the pull keeps its lease alive meanwhile, and its origin hears that all is here when it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from zdl.errors import Cancelled
from zdl.objects.manifest import Range
from zdl.refs import Source


class NearbySink(ABC):
    """Where such a pull lands; see `zdl.download.puller.Sink`.

    Threads: `begin` from the thread that pulls, `finish` from the broker's threads.

    Attributes:
        ranges: nothing is to be asked for.
        have: all of it.

    Args:
        source: the offer.
        have: all that is wanted of it.
    """

    def __init__(self, source: Source, have: Sequence[Range]) -> None:
        self.ranges: list[Range] = []
        self.have: list[Range] = list(have)
        self._source = source
        self._tell: Callable[[int], None] = lambda done: None
        self._why_not: Callable[[], str] = lambda: ""

    @property
    def may_block(self) -> bool:
        """So that it is finished by somebody who has the time."""
        return True

    def begin(self, tell: Callable[[int], None], why_not: Callable[[], str]) -> None:
        """Before its pull begins.

        Args:
            tell: gets the bytes done so far, as they are copied.
            why_not: says why it is to end before all is copied; empty while it is not.
        """
        self._tell, self._why_not = tell, why_not

    def view(self, offset: int, length: int) -> memoryview:
        """No chunk comes."""
        raise AssertionError("nothing was asked for")

    def keep(self, offset: int, view: memoryview) -> None:
        """No chunk comes."""
        raise AssertionError("nothing was asked for")

    @abstractmethod
    def finish(self) -> None:
        """Copies all of it.

        Raises:
            Cancelled: nobody wants it any more.
            DownloadError: it cannot be copied.
        """

    def check_wanted(self) -> None:
        """Raises `Cancelled` when nobody wants it any more; asked between two pieces."""
        why = self._why_not()
        if why:
            raise Cancelled(what=f"the pull of {self._source.label} from {self._source.origin}", why=why)
