"""Redial: when a lost parent is dialled again: for ever, with a growing pause, half of it spread.

The spread comes from the cell's incarnation, so that a thousand children of a parent that restarted do
not come at once, and one seed of a simulation is still one history.
"""

from __future__ import annotations

from zdl.errors import ZdlError
from zdl.options import LinkOptions


class Redial:
    """The tries to reach one parent.

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

    def failed(self, error: ZdlError, now: float) -> None:
        """A try failed or the link was lost: plan the next one."""
        pause = min(self._options.redial_min_s * 2.0 ** min(self._attempts, 20), self._options.redial_max_s)
        spread = self._incarnation[self._attempts % len(self._incarnation)] / 255
        self._attempts += 1
        self.error = error
        self.at = now + pause * (0.5 + 0.5 * spread)

    def succeeded(self) -> None:
        """The parent is there."""
        self._attempts, self.error = 0, None

    def is_due(self, now: float) -> bool:
        """Whether it is time; the plan is used up with a yes."""
        if self.at is None or now < self.at:
            return False
        self.at = None
        return True
