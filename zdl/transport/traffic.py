"""Traffic: what has moved over each link of one lane, kept under the peer's name when the link has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Peers that are gone and whose traffic is still told.
ENDED_MAX = 4096


@dataclass(slots=True)
class Traffic:
    """What has moved over one link, in bytes of bodies and in messages; read by reports at any time."""

    fqcn: str
    bytes_in: int = 0
    bytes_out: int = 0
    messages_in: int = 0
    messages_out: int = 0


class TrafficBook:
    """The traffic of one lane.

    Threads: one at a time, whoever holds the loop's lock; `all` from any thread.

    Args:
        name_of: the peer at the other end of a link, empty while it is not known.
    """

    def __init__(self, name_of: Callable[[int], str]) -> None:
        self._name_of = name_of
        self._by_link: dict[int, Traffic] = {}
        self._ended: dict[str, Traffic] = {}

    def of(self, link: int) -> Traffic:
        """The line of one link."""
        traffic = self._by_link.get(link)
        if traffic is None:
            traffic = self._by_link[link] = Traffic("")
        if not traffic.fqcn:
            traffic.fqcn = self._name_of(link)
        return traffic

    def count_in(self, link: int, body: Sequence[bytes | memoryview], count: int = 1) -> None:
        """A message came; or so many without bodies."""
        traffic = self._by_link.get(link)
        if traffic is None or not traffic.fqcn:
            traffic = self.of(link)
        traffic.messages_in += count
        for part in body:
            traffic.bytes_in += len(part)

    def count_out(self, link: int, parts: Sequence[bytes | memoryview], count: int = 1) -> None:
        """A message went, its first part the header; or so many without bodies."""
        traffic = self._by_link.get(link)
        if traffic is None or not traffic.fqcn:
            traffic = self.of(link)
        traffic.messages_out += count
        for part in parts[1:]:
            traffic.bytes_out += len(part)

    def fold(self, link: int) -> None:
        """A link has ended."""
        ended = self._by_link.pop(link, None)
        if ended is not None:
            name = ended.fqcn or self._name_of(link)
            self._ended[name] = _sum(ended, self._ended.get(name, Traffic(name)), name)
            while len(self._ended) > ENDED_MAX:
                del self._ended[next(iter(self._ended))]

    def all(self) -> list[Traffic]:
        """What has moved so far, per peer."""
        found = dict(self._ended)
        for link, each in list(self._by_link.items()):
            name = each.fqcn or self._name_of(link)
            found[name] = _sum(each, found.get(name, Traffic(name)), name)
        return [found[name] for name in sorted(found)]


def _sum(one: Traffic, other: Traffic, name: str) -> Traffic:
    return Traffic(name, one.bytes_in + other.bytes_in, one.bytes_out + other.bytes_out,
                   one.messages_in + other.messages_in, one.messages_out + other.messages_out)
