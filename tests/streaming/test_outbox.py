"""Outbox: what is put for one receiver or several is taken by the lane in few messages, or at once."""

from __future__ import annotations

from flows import joined

from zdl.protocol.items import BATCH_BYTES
from zdl.streaming.outbox import Outbox

from trees import Trees
from waiting import eventually


def test_what_is_put_while_nothing_is_on_its_way_leaves_at_once_and_the_rest_is_gathered(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    taken: list[int] = []

    class Noting(Outbox):
        """Notes how many items each word to the lane takes."""

        def _drain(self) -> list[tuple[tuple[bytes | memoryview, ...], float | None]]:
            found = super()._drain()
            taken.append(len(found))
            return found

    outbox = Noting(site)
    with outbox.changed:
        outbox.joined()
    outbox.put((b"first",), 5, None)
    eventually(lambda: taken == [1])
    outbox.put((b"second",), 6, None)
    outbox.put((b"third",), 5, None)
    assert taken == [1], "something is on its way"
    with outbox.changed:
        assert not outbox.moved(is_free=False) and outbox.moved(is_free=True) and not outbox.moved(is_free=True)
    outbox.leave()
    eventually(lambda: taken == [1, 2])
    outbox.put((b"x" * BATCH_BYTES,), BATCH_BYTES, None)
    eventually(lambda: taken == [1, 2, 1])
    assert outbox.put_count == 4
    outbox.put((b"late",), 4, None)
    with outbox.changed:
        outbox.left()
    outbox.leave()
    eventually(lambda: taken == [1, 2, 1, 0])


def test_the_last_items_are_taken_before_the_end(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    out, inflow, _ = joined(server, site)
    for number in range(3):
        out.put((b"%d" % number,))
    out.finish()
    found = []
    while (item := inflow.take(5.0)) is not None:
        found.append(bytes(item[0]))
        inflow.consumed(item)
    inflow.end(None)
    assert found == [b"0", b"1", b"2"]
    eventually(lambda: out.has_ended)
