"""Nearby: a pull that asks for nothing copies when it is finished."""

from __future__ import annotations

import pytest

from zdl.download.nearby import NearbySink
from zdl.errors import Cancelled
from zdl.refs import Source

SOURCE = Source("server", b"i" * 16, b"s" * 16, 10)


class Steps(NearbySink):
    """Copies one byte after the other."""

    def finish(self) -> None:
        for done in range(1, SOURCE.bytes_total + 1):
            self.check_wanted()
            self._tell(done)


def test_it_asks_for_nothing_and_no_chunk_may_come() -> None:
    sink = Steps(SOURCE, [(0, 4), (6, 4)])
    assert (sink.ranges, sink.have, sink.may_block) == ([], [(0, 4), (6, 4)], True)
    with pytest.raises(AssertionError, match="nothing was asked for"):
        sink.view(0, 4)
    with pytest.raises(AssertionError, match="nothing was asked for"):
        sink.keep(0, memoryview(b"1234"))


def test_it_tells_how_far_it_is_and_ends_when_nobody_wants_it() -> None:
    sink, told = Steps(SOURCE, [(0, 10)]), list[int]()
    sink.finish()  # nobody has to listen
    sink.begin(told.append, lambda: "enough" if len(told) == 3 else "")
    with pytest.raises(Cancelled, match="server.*enough"):
        sink.finish()
    assert told == [1, 2, 3]
