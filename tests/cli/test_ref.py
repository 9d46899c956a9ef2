from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.cli.main import main
from zdl.cli.ref import ref
from zdl.options import OfferOptions, Options

from processes import Start, ended
from trees import Trees

OPEN = Options(offers=OfferOptions(removable=True))


@pytest.fixture
def server() -> Iterator[Cell]:
    """A cell that lets others end what it lends."""
    with Trees() as trees:
        yield trees.grow("server", options=OPEN)[0]


def test_what_is_lent_is_ended_by_its_name_and_by_the_first_digits_of_its_id(
        server: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = (server.downloads.lend(np.zeros(2)) for _ in range(3))
    server.downloads.publish("both", [first.body, second.body])
    assert main(["ref", "rm", "ref:server/both", f"ref:server/{third.id.hex()[:8]}", "--json", "--parent",
                 server.addresses[0]]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["ended"] for each in told] == [[first.id.hex(), second.id.hex()], [third.id.hex()]]
    assert [each.wait(10).reason for each in (first, second, third)] == ["deleted"] * 3
    assert main(["ref", "rm", "ref:server/both", "--parent", server.addresses[0]]) == 3  # the name is gone too
    assert "ref:server/both" in capsys.readouterr().err


def test_a_cell_that_does_not_allow_it_says_so_and_how_it_would(capsys: pytest.CaptureFixture[str]) -> None:
    with Trees() as trees:
        server, = trees.grow("server")
        lent = server.downloads.lend(np.zeros(2))
        assert main(["ref", "rm", f"ref:server/{lent.id.hex()}", "--parent", server.addresses[0]]) == 6
        said = capsys.readouterr().err
        assert "server refused (not-allowed)" in said and "zdl put --removable" in said
        assert lent.outcome is None and server.downloads.transactions == [lent]


@pytest.mark.parametrize("what", ["nothing", "0123456", "0" * 32])
def test_what_nobody_lends_cannot_be_ended(server: Cell, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    lent = server.downloads.lend(np.zeros(2))
    assert main(["ref", "rm", f"ref:server/{what}", "--parent", server.addresses[0]]) == 3
    assert lent.outcome is None and ref.commands.keys() == {"rm"}


def test_put_ends_when_another_cell_has_ended_what_it_lends(run: Start, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with Trees() as trees:
        server, = trees.grow("server")
        putting = run("put", tmp_path / "x", "--removable", "--parent", server.addresses[0])
        assert ended("ref", "rm", putting.line(), "--parent", server.addresses[0]).code == 0
        assert putting.ended().code == 7
