"""Services: mounted on a cell by the door that users have, and closed with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from zdl.cell.cell import BareCell
from zdl.cell.messages import Request
from zdl.cell.service import Lender, Scope, Service
from zdl.cell.signal import Signal
from zdl.errors import NoRoute
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent
from zdl.options import PackOptions
from zdl.refs import Holder, Ref, Source

from trees import Trees
from waiting import PATIENCE_S

LARGE = 2 << 20


class Notebook:
    """A service that lends nothing, and writes down what is asked of it."""

    def __init__(self, name: str, ended: list[str]) -> None:
        self.name = name
        self.ended = ended
        self.scopes: list[Page] = []
        self.resolved: list[object] = []

    def close(self, timeout_s: float) -> list[str]:
        self.ended.append(self.name)
        return [f"{self.name} had more to do"]

    def scope(self, receivers: Sequence[str] | int, *, targets: Sequence[str] = (), lease_s: float | None = None,
              packing: PackOptions = PackOptions()) -> Page:
        self.scopes.append(Page(receivers, targets))
        return self.scopes[-1]

    def holder(self, heard: Callable[[int, int], object] | None = None) -> Holder:
        return self

    def pull(self, what: object, into: object, **how: object) -> object:
        return "pulled"

    def release(self, refs: Sequence[Ref]) -> None:
        raise AssertionError

    heard = None

    def resolve(self, body: object, timeout_s: float | None = None, *, abort: Signal | None = None,
                progress: Callable[[int, int], None] | None = None, renew_s: float | None = None, to: str = "memory") -> object:
        self.resolved.append(body)
        return "resolved"


class Page:
    """What one message lends."""

    transaction = None

    def __init__(self, receivers: Sequence[str] | int, targets: Sequence[str]) -> None:
        self.receivers = receivers
        self.targets = targets
        self.lent = 0
        self.was_undeliverable = False
        self.excused = 0

    def lend(self, manifest: Manifest, lent: Sequence[Lent]) -> Source:
        self.lent += len(lent)
        return Source("server", bytes(16), bytes(16), manifest.bytes_total)

    def undeliverable(self) -> None:
        self.was_undeliverable = True

    def excuse(self, count: int) -> None:
        self.excused += count

    def miss(self, target: str) -> None:
        """Nobody is lost here."""


def test_a_notebook_is_a_service() -> None:
    book = Notebook("it", [])
    service: Service = book
    lender: Lender = book
    scope: Scope = lender.scope(1)
    assert service.close(0.0) == ["it had more to do"] and scope.undeliverable() is None  # type: ignore[func-returns-value]


def test_services_end_with_the_cell_the_last_one_first() -> None:
    ended: list[str] = []
    cell = BareCell("server", listen="tcp://127.0.0.1:0")
    cell.start()
    cell.mount(Notebook("first", ended))
    cell.mount(Notebook("second", ended))
    assert cell.close() == ["second had more to do", "first had more to do"]
    assert ended == ["second", "first"]
    assert cell.close() == ["second had more to do", "first had more to do"]
    assert ended == ["second", "first"]


def test_the_lender_lends_what_is_large_and_resolves_what_has_refs(trees: Trees) -> None:
    with BareCell("server", listen="tcp://127.0.0.1:0") as cell:
        book = Notebook("it", [])
        cell.mount(book, lender=book)
        seen: list[object] = []

        @cell.handler("task", "look")
        def look(request: Request) -> object:
            seen.append(request.body)
            return {"w": np.zeros(LARGE)}

        reply = cell.request("server", "task", "look", {"v": np.zeros(LARGE), "n": 1}, receivers=["a", "b"])
        assert (seen, reply.body) == (["resolved"], "resolved")
        assert [(page.receivers, page.targets, page.lent, page.was_undeliverable) for page in book.scopes] == [
            (["a", "b"], ("server",), 1, False), (1, ("server",), 1, False)]
        assert cell.request("server", "task", "look", 1, resolve=False).body["w"].length == 8 * LARGE
        assert seen[-1] == 1, "a body without refs is not shown to the lender"


def test_what_did_not_arrive_is_told_to_its_scope() -> None:
    with BareCell("server", listen="tcp://127.0.0.1:0") as cell:
        book = Notebook("it", [])
        cell.mount(book, lender=book)
        with pytest.raises(NoRoute):
            cell.request("site-1", "task", "look", np.zeros(LARGE), timeout_s=PATIENCE_S)
        assert book.scopes[0].was_undeliverable


def test_a_cell_without_a_lender_sends_what_is_large_as_it_is() -> None:
    with BareCell("server", listen="tcp://127.0.0.1:0") as server:
        server.handler("task", "echo")(lambda request: request.body)
        with BareCell("site-1", parent=server.addresses[0]) as site:
            site.wait_ready()
            array = np.arange(LARGE // 2)
            assert np.array_equal(site.request("server", "task", "echo", array).body, array)
