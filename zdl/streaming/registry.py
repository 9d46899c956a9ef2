"""Registry: who takes in which streams."""

from __future__ import annotations

from collections.abc import Callable

from zdl.cell.calling import check_names
from zdl.errors import OptionError, Refused
from zdl.protocol.pushing import Open
from zdl.streaming.inflow import Inflow

ANY = "*"
Opened = Callable[[Open], Inflow]


class Registry:
    """What is registered at one cell, by channel and topic.

    Threads: `add` and `remove` from any thread, `opened` on the lane; single operations on a dict, which need no lock.

    Args:
        fqcn: the cell.
    """

    def __init__(self, fqcn: str) -> None:
        self._fqcn = fqcn
        self._takers: dict[tuple[str, str], Opened] = {}

    def __repr__(self) -> str:
        return f"<Registry: {len(self._takers)} names>"

    def add(self, channel: str, topic: str, opened: Opened) -> None:
        """Streams of this name are taken in so.

        Raises:
            OptionError: the name is taken, or cannot travel.
        """
        check_names(channel, topic)
        if self._takers.setdefault((channel, topic), opened) is not opened:
            raise OptionError(name="topic", value=f"{channel}/{topic}", allowed="a name that is not registered yet")

    def remove(self, channel: str, topic: str) -> None:
        """No more streams of this name are taken in; those that are open go on."""
        self._takers.pop((channel, topic), None)

    def opened(self, message: Open) -> Inflow:
        """What takes in this stream.

        Raises:
            Refused: nobody does.
        """
        taker = self._takers.get((message.channel, message.topic)) or self._takers.get((message.channel, ANY))
        if taker is None:
            raise Refused(by=self._fqcn, reason="no-handler",
                          text=f"nobody takes in streams of {message.channel}/{message.topic}")
        return taker(message)
