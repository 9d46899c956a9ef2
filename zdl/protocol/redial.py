"""Redial: when a lost parent is dialled again: for ever, with a growing pause, half of it spread.

The spread comes from the cell's incarnation, so that a thousand children of a parent that restarted do
not come at once, and one seed of a simulation is still one history.

It also tells why the parent is not there. A try whose end is not known yet is a cause too: a name that does not resolve, or a
host that drops what it gets, is not told by anybody before the try is given up.
"""

from __future__ import annotations

from zdl.errors import PeerLost, Refused, ZdlError
from zdl.options import LinkOptions

# How a link ended: the other side has said so, and why; the whole cell has ended.
SAID_GOODBYE, CLOSED = "it said goodbye", "closed"
# A parent that has closed is not back at once: the first pause is doubled so often, which makes it 0.2 to 0.4 s. A thousand
# children that dial before that only keep a machine that they share with it from closing their links.
CLOSED_DOUBLINGS = 3


class Redial:
    """The tries to reach one parent.

    One lane may learn from the other that the parent is gone: then it **rests**, until it is told that it is back.

    Args:
        incarnation: 16 random bytes.
        options: the least and the longest pause.
    """

    def __init__(self, incarnation: bytes, options: LinkOptions) -> None:
        self._incarnation = incarnation
        self._options = options
        self._attempts = 0
        self.address = ""
        self.at: float | None = None
        self.error: ZdlError | None = None
        self._since: float | None = None
        self.is_resting = False

    def dialled(self, address: str, now: float) -> None:
        """A try begins. What was wrong with another address says nothing about this one."""
        if address != self.address or self._since is None:
            self.error, self._since = None, now
        self.address, self.at, self.is_resting = address, None, False

    def rest(self) -> None:
        """No more tries until it is dialled, or `wake`."""
        self.at, self.is_resting = None, True

    def wake(self) -> None:
        """The parent is there, and so is the link to it: when that is lost it is dialled again."""
        self.is_resting = False

    def failed(self, error: ZdlError, now: float) -> None:
        """A try failed, or the link was lost: plan the next one. A parent that has closed is given some time to come back."""
        if isinstance(error, PeerLost) and error.why == f"{SAID_GOODBYE}: {CLOSED}":
            self._attempts = max(self._attempts, CLOSED_DOUBLINGS)
        pause = min(self._options.redial_min_s * 2.0 ** min(self._attempts, 20), self._options.redial_max_s)
        spread = self._incarnation[self._attempts % len(self._incarnation)] / 255
        self._attempts += 1
        self.error = error
        self._since = now if self._since is None else self._since
        self.at = None if self.is_resting else now + pause * (0.5 + 0.5 * spread)

    def succeeded(self) -> None:
        """The parent is there."""
        self._attempts, self.error, self._since = 0, None, None

    def why(self, now: float) -> str:
        """Why the parent is not there, since when, and what to do; empty while it is, or where there is none."""
        if self._since is None:
            return ""
        if isinstance(self.error, Refused):  # it is there, and its own words say what is wrong
            return str(self.error)
        tried = f"{self.address} has been dialled for {max(now - self._since, 0.0):.1f} s"
        error = self.error
        cause = error.why if isinstance(error, PeerLost) and error.lost == self.address else str(error)
        known = f"{tried} and has not answered yet" if error is None else f"{cause}; {tried}"
        return f"{known}: check the address, and that the cell there runs"

    def is_due(self, now: float) -> bool:
        """Whether it is time; the plan is used up with a yes."""
        if self.at is None or now < self.at:
            return False
        self.at = None
        return True
