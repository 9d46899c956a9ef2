from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from zdl import CacheableObject
from zdl.assembly import Cell
from zdl.cli.joining import Joined
from zdl.cli.main import main
from zdl.cli.report import ask, ref_row, transfer_rows
from zdl.download.loans import CHANNEL, LOANS_TOPIC
from zdl.refs import Ref

from trees import Trees
from waiting import eventually


@pytest.fixture
def fabric() -> Iterator[tuple[Cell, Cell, Cell]]:
    with Trees() as trees:
        server, site, leaf = trees.grow("server", "site-1", "site-1.w0")
        yield server, site, leaf


def reported(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[dict[str, object]]:
    """The rows that ``zdl report`` prints."""
    capsys.readouterr()
    assert main(["report", *words, "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class Stuck(CacheableObject):
    """An object whose one item is not made before it may be."""

    def __init__(self) -> None:
        super().__init__([1], 1)
        self.may_go_on = threading.Event()

    def get_item_count(self) -> int:
        return 1

    def produce_item(self, index: int) -> object:
        self.may_go_on.wait(60)
        return b"made"


def test_refs_tells_who_holds_what_who_has_it_and_who_is_waited_for(
        fabric: tuple[Cell, Cell, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    server, site, leaf = fabric
    lent = server.downloads.lend(np.arange(100.0), receivers=["site-1", "site-1.w0", "site-9"])
    server.downloads.publish("weights", lent.body)
    assert isinstance(lent.body, Ref)
    site.downloads.pull(lent.body)
    leaf.downloads.pull(lent.body[:10])
    eventually(lambda: len(lent.receivers) == 1 and len(lent.begun) == 2, what="what they have begun")
    row, = reported(capsys, "refs", "--parent", server.addresses[0])
    assert (row["ref"], row["what"], row["bytes_total"]) == (f"ref:server/{lent.id.hex()[:8]}", "array as weights", 800)
    assert (row["held_by"], row["have_it"], row["waits_for"]) == (["site-1.w0"], "1 of 3", ["site-1.w0", "site-9"])
    assert row["state"] == "open" and 0 <= row["age_s"] < 600 and 0 < row["lease_left_s"] <= 600  # type: ignore[operator]
    assert reported(capsys, "refs", "site-*", "--parent", server.addresses[0]) == []
    assert main(["report", "refs", "--parent", server.addresses[0]]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split("\t")[0] == "ref" and line.split("\t")[0] == row["ref"]


def test_transfers_tells_each_side_what_is_awaited_and_users_code_that_hangs_with_its_age(
        fabric: tuple[Cell, Cell, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    server, site, leaf = fabric
    stuck = Stuck()
    lent = server.downloads.lend(stuck, receivers=["site-1.w0", "site-9"])
    assert isinstance(lent.body, Ref)
    pulling = threading.Thread(target=leaf.downloads.pull, args=(lent.body,))
    pulling.start()
    try:
        eventually(lambda: server.downloads.running and lent.begun, what="the production")
        rows = reported(capsys, "transfers", "--parent", site.addresses[0], "--stalled-after", "1h")
        lends = {row["peer"]: row for row in rows if row["side"] == "lends"}
        assert (lends["site-1.w0"]["state"], lends["site-9"]["state"]) == ("pulling", "awaited")
        pulls, = [row for row in rows if row["side"] == "pulls"]
        assert (pulls["fqcn"], pulls["peer"], pulls["ref"], pulls["state"]) == (
            "site-1.w0", "server", lends["site-1.w0"]["ref"], "pulling")
        runs, = [row for row in rows if row["side"] == "runs"]
        assert runs["fqcn"] == "server" and str(runs["note"]).startswith("production of ref:") and runs["age_s"] > 0  # type: ignore
        stalled = reported(capsys, "transfers", "--parent", site.addresses[0], "--stalled-after", "0s")
        assert {row["state"] for row in stalled if row["side"] != "runs"} == {"stalled", "awaited"}
    finally:
        stuck.may_go_on.set()
        pulling.join()
    eventually(lambda: not server.downloads.running, what="the end of the production")
    ended = [row for row in reported(capsys, "transfers", "--ended", "--parent", site.addresses[0]) if row["side"] == "pulls"]
    assert [row["state"] for row in ended] == ["done"]
    assert [row for row in reported(capsys, "transfers", "--parent", site.addresses[0]) if row["side"] == "pulls"] == []


def test_more_than_one_page_is_told_whole(fabric: tuple[Cell, Cell, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    server, _, _ = fabric
    lent = [server.downloads.lend(np.zeros(2)) for _ in range(101)]
    rows = reported(capsys, "refs", "--parent", server.addresses[0])
    assert {row["id"] for row in rows} == {each.id.hex() for each in lent}


def test_a_cell_that_does_not_say_is_named_and_the_end_is_7(
        fabric: tuple[Cell, Cell, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    server, site, _ = fabric
    site.handler(CHANNEL, LOANS_TOPIC)(lambda request: 1 / 0)
    server.downloads.lend(np.zeros(2))
    assert main(["report", "refs", "--parent", server.addresses[0]]) == 7
    told = capsys.readouterr()
    assert "1 of 4 cells did not say: site-1: " in told.err and "ref:server/" in told.out


def test_who_is_not_there_cannot_be_asked(fabric: tuple[Cell, Cell, Cell], capsys: pytest.CaptureFixture[str]) -> None:
    server, _, _ = fabric
    assert main(["report", "transfers", "--root", "nobody", "--parent", server.addresses[0], "--timeout", "1s"]) == 3
    assert "nobody" in capsys.readouterr().err


def test_what_a_cell_says_may_be_anything(fabric: tuple[Cell, Cell, Cell]) -> None:
    server, site, _ = fabric
    site.handler(CHANNEL, LOANS_TOPIC)(lambda request: {"loans": [3, {"id": 7, "age_s": float("nan"), "holders": [None]}],
                                                        "next": ""})
    found = ask(Joined(server, "server"), "site-1", root="server", timeout_s=5.0)
    row = ref_row("site-1", found.loans["site-1"][0])
    assert (row["ref"], row["age_s"], row["held_by"]) == ("ref:site-1/", 0.0, [])
    assert [each["side"] for each in transfer_rows("site-1", {"transfers": 5, "running": [None]}, found.loans["site-1"],
                                                   has_ended=False, stalled_s=1.0)] == ["runs"]
