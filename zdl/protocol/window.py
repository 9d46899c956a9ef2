"""Window: how many bytes may be asked for and not be here yet.

The pipe between two cells holds ``rate x round trip`` bytes; less in flight leaves it empty, more only
waits in buffers on the way. So the window follows twice that product, estimated from the chunks
themselves: the rate as the best of the last deliveries, the round trip as the least ever seen. While a
small window is what limits the rate, doubling it doubles the rate, and the window grows within a few
round trips; once buffers fill, the rate stays and the growth ends by itself.

On one host three or four chunks of 1 MiB fill the pipe (measured: window 4 / 8 / 16 chunks 1.43 / 1.45
/ 1.47 of a plain copy); hence the lower bound.
"""

from __future__ import annotations

from collections import deque

# Deliveries that the best rate is taken from; older ones may belong to a better path than today's.
RATES_KEPT = 32


class Window:
    """The window of one pull.

    Args:
        bytes_min: never less.
        bytes_max: never more.
    """

    def __init__(self, *, bytes_min: int, bytes_max: int) -> None:
        self._bytes_min = bytes_min
        self._bytes_max = bytes_max
        self._size = bytes_min
        self._in_flight = 0
        self._delivered = 0
        self._round_trip_s = float("inf")
        self._rates: deque[float] = deque(maxlen=RATES_KEPT)

    @property
    def size(self) -> int:
        """Bytes that may be in flight."""
        return self._size

    @property
    def in_flight(self) -> int:
        """Bytes asked for and not here."""
        return self._in_flight

    @property
    def round_trip_s(self) -> float:
        """The least time from question to chunk seen so far; infinite before the first."""
        return self._round_trip_s

    def has_room(self, length: int) -> bool:
        """Whether a chunk of `length` bytes may be asked for; the first one always may."""
        return self._in_flight == 0 or self._in_flight + length <= self._size

    def asked(self, length: int) -> int:
        """A chunk was asked for. Returns a mark that `landed` wants back."""
        self._in_flight += length
        return self._delivered

    def landed(self, length: int, *, mark: int, took_s: float) -> None:
        """A chunk is here, `took_s` seconds after it was asked for."""
        self._in_flight -= length
        self._delivered += length
        if took_s <= 0:
            return
        self._round_trip_s = min(self._round_trip_s, took_s)
        self._rates.append((self._delivered - mark) / took_s)
        wanted = 2 * max(self._rates) * self._round_trip_s
        self._size = max(self._bytes_min, int(min(wanted, self._bytes_max)))

    def given_up(self, length: int) -> None:
        """A chunk is no longer expected."""
        self._in_flight -= length

    def check(self) -> None:
        """All invariants; for simulation."""
        assert self._bytes_min <= self._size <= self._bytes_max
        assert self._in_flight >= 0
