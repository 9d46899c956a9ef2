"""Window: how many bytes may be asked for and not be here yet, and in pieces of what size.

The pipe between two cells holds ``rate x round trip`` bytes; less in flight leaves it empty, more only waits in buffers on
the way, and there everything else that takes this way waits behind it. So the window follows twice that product, and as
many chunks as keep both ends busy; both are estimated from the chunks themselves: the rate as the best of the last
deliveries, the round trip from the quickest chunk, less the time that its own bytes took. While a small window is what limits
the rate, doubling it doubles the rate, and the window grows with every round trip; once buffers fill, the rate stays and the
growth ends by itself. Where the receiver is the brake, a disk, it asks more rarely, the rate falls, and the window with it.

A **chunk** is what the path carries in a hundredth of a second, so that four of them in flight keep nobody waiting for long:
on one host, and on everything down to 1 Gbit/s, the largest there are, on a line of 10 MB/s 64 KiB. They end at multiples of their
size from the beginning of a range, so that those who pull the same ask for the same pieces.

On one host three or four chunks of 1 MiB fill the pipe (measured: window 4 / 8 / 16 chunks 1.43 / 1.45 / 1.47 of a plain copy).
Eight let several be asked for **together**, when there is room for a quarter of the window: they travel as one message, and wake
the threads on their way once. So the window holds eight where that is no more than the path carries in a hundredth of a second.
"""

from __future__ import annotations

from collections import deque

# Deliveries that the best rate is taken from; older ones may belong to a better path than today's.
RATES_KEPT = 32
CHUNK_S = 0.01
CHUNKS_LEAST = 4
CHUNKS_TOGETHER = 8


class Window:
    """The window of one pull.

    Args:
        bytes_min: never less; and so many at first, when nothing is known of the path.
        bytes_max: never more.
        chunk_bytes_min: no chunk is shorter, but for the end of a range.
        chunk_bytes_max: no chunk is longer. By default chunks are as long as two of them fit into the window.

    Attributes:
        chunk_bytes: how long the next chunk is to be.
    """

    def __init__(self, *, bytes_min: int, bytes_max: int, chunk_bytes_min: int = 1, chunk_bytes_max: int | None = None) -> None:
        longest = bytes_min if chunk_bytes_max is None else chunk_bytes_max
        self._bytes_min = bytes_min
        self._bytes_max = bytes_max
        self._chunk_bytes_min = min(chunk_bytes_min, longest)
        self._chunk_bytes_max = longest
        self._size = bytes_min
        self.chunk_bytes = longest if longest <= bytes_min else max(self._chunk_bytes_min, bytes_min // 2)
        self._in_flight = 0
        self._delivered = 0
        self._round_trip_s = float("inf")
        self._round_trip_bytes = 0
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
    def delivered(self) -> int:
        """Bytes that have come."""
        return self._delivered

    @property
    def round_trip_s(self) -> float:
        """The least time from question to chunk seen on this path; infinite before the first."""
        return self._round_trip_s

    @property
    def rate(self) -> float:
        """The best of the last deliveries, in bytes per second; 0 before the first."""
        return max(self._rates, default=0.0)

    @property
    def way_s(self) -> float:
        """What of the least round trip was not the time that the chunk itself was on the line; 0 before the first."""
        return max(0.0, self._round_trip_s - self._round_trip_bytes / self.rate) if self._rates else 0.0

    def has_room(self, length: int) -> bool:
        """Whether a chunk of `length` bytes may be asked for; the first one always may."""
        return self._in_flight == 0 or self._in_flight + length <= self._size

    def has_room_for_several(self, held: int) -> bool:
        """Whether a quarter of the window is free, but at least one chunk, beside `held` bytes that wait at the receiver."""
        together = max(1, self._size // (4 * self.chunk_bytes))
        return self.has_room(together * self.chunk_bytes + held)

    def cut(self, length: int, *, since: int) -> int:
        """How much of the `length` bytes that are to do next is to be asked for as one chunk.

        Args:
            length: to the end of a range.
            since: from the beginning of that range.
        """
        chunk_bytes = self.chunk_bytes
        return min(length, chunk_bytes - since % chunk_bytes)

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
        if took_s < self._round_trip_s:
            self._round_trip_s, self._round_trip_bytes = took_s, length
        self._rates.append((self._delivered - mark) / took_s)
        rate = max(self._rates)
        self.chunk_bytes = self._chunk_of(rate)
        chunks = max(CHUNKS_LEAST * self.chunk_bytes, min(rate * CHUNK_S, CHUNKS_TOGETHER * self.chunk_bytes))
        wanted = 2 * rate * max(0.0, self._round_trip_s - self._round_trip_bytes / rate) + chunks
        self._size = max(self._bytes_min, int(min(wanted, self._bytes_max)))

    def given_up(self, length: int) -> None:
        """A chunk is no longer expected."""
        self._in_flight -= length

    def forget_path(self) -> None:
        """What comes now takes another way: what was measured says nothing about it."""
        self._round_trip_s, self._round_trip_bytes = float("inf"), 0
        self._rates.clear()

    def check(self) -> None:
        """All invariants; for simulation."""
        assert self._bytes_min <= self._size <= self._bytes_max
        assert self._chunk_bytes_min <= self.chunk_bytes <= self._chunk_bytes_max
        assert self._in_flight >= 0

    def _chunk_of(self, rate: float) -> int:
        """A power of two times the shortest chunk, so that chunks of all sizes end at the same places."""
        fitting = min(rate * CHUNK_S, self._chunk_bytes_max)
        if fitting >= self._chunk_bytes_max:
            return self._chunk_bytes_max
        doublings = int(fitting / self._chunk_bytes_min).bit_length() - 1
        return self._chunk_bytes_min << max(0, doublings)
