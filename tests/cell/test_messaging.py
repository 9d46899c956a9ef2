"""What a cell sends, as its users have it: one set of calls, which say that the cell is not open while it is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zdl.assembly import Cell
from zdl.cell.messaging import Messaging
from zdl.errors import Closed, FqcnError
from zdl.options import Options

from trees import Trees


@pytest.mark.parametrize("call", [
    lambda cell: cell.request("server", "task", "run"),
    lambda cell: cell.request_future("server", "task", "run"),
    lambda cell: cell.notice("server", "task", "run"),
    lambda cell: cell.broadcast(["server"], "task", "run"),
    lambda cell: cell.workflow(1.0),
    lambda cell: cell.lent(),
    lambda cell: cell.workflows,
])
def test_while_it_is_not_open_every_call_says_so(trees: Trees, call: Callable[[Messaging], object]) -> None:
    (ended,) = trees.grow("server", scheme="inproc")
    ended.close()
    for cell in (Messaging("site-1", Options()), ended):
        with pytest.raises(Closed) as caught:
            call(cell)
        assert caught.value.fqcn == cell.fqcn


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(FqcnError):
        Messaging("a..b", Options())


def test_a_filter_that_is_added_while_the_cell_is_open_sees_what_is_sent_from_then_on(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    assert isinstance(site, Messaging) and isinstance(site, Cell)

    @server.handler("task", "echo")
    def echo(request: object) -> object:
        return request.body  # type: ignore[attr-defined]

    def ask() -> object:
        future = site.request_future("server", "task", "echo", 1)
        return [site.request("server", "task", "echo", 1).body, future.result().body,
                site.broadcast(["server"], "task", "echo", 1)["server"].reply.body]  # type: ignore[union-attr]

    assert ask() == [1, 1, 1]

    @site.filters.outgoing_request("task", "echo")
    def double(message: object) -> object:
        return message.changed(body=2)  # type: ignore[attr-defined]

    assert ask() == [2, 2, 2]
    site.filters.remove(double)  # type: ignore[arg-type]
    assert ask() == [1, 1, 1]
