"""Feed: what is put for one receiver or several is taken by the lane in few messages, or at once."""

from __future__ import annotations

from flows import joined

from zdl.protocol.items import BATCH_BYTES
from zdl.streaming.feed import Feed

from trees import Trees
from waiting import eventually


def test_what_is_put_while_nothing_is_on_its_way_leaves_at_once_and_the_rest_is_gathered(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    taken: list[int] = []

    class Noting(Feed):
        """Notes how many items each word to the lane takes."""

        def _drain(self) -> list[tuple[tuple[bytes | memoryview, ...], float | None]]:
            found = super()._drain()
            taken.append(len(found))
            return found

    feed = Noting(site)
    with feed.changed:
        feed.joined()
    feed.put((b"first",), 5, None)
    eventually(lambda: taken == [1])
    feed.put((b"second",), 6, None)
    feed.put((b"third",), 5, None)
    assert taken == [1], "something is on its way"
    with feed.changed:
        assert not feed.moved(is_free=False) and feed.moved(is_free=True) and not feed.moved(is_free=True)
    feed.leave()
    eventually(lambda: taken == [1, 2])
    feed.put((b"x" * BATCH_BYTES,), BATCH_BYTES, None)
    eventually(lambda: taken == [1, 2, 1])
    assert feed.put_count == 4
    feed.put((b"late",), 4, None)
    with feed.changed:
        feed.left()
    feed.leave()
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
