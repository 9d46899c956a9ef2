from __future__ import annotations

import re

import click
import pytest

from zdl.assembly import CHANNEL, PING_TOPIC, Cell
from zdl.cli.joining import ADDRESS, joined
from zdl.errors import TimedOut

from processes import PROCESS_S


def test_the_root_takes_a_command_as_a_child_of_its_own() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server:
        with joined(server.addresses[0], timeout_s=PROCESS_S) as here:
            assert re.fullmatch(r"cli-[0-9a-f]{8}", here.cell.fqcn)
            assert here.dialled == "server"
            assert here.cell.request("server", CHANNEL, PING_TOPIC).hops == 0


def test_any_other_cell_says_its_name_and_the_command_joins_below_it() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server, \
            Cell("site-1", parent=server.addresses[0], listen="tcp://127.0.0.1:0") as site:
        site.wait_ready()
        with joined(site.addresses[0], timeout_s=PROCESS_S) as here, \
                joined(site.addresses[0], timeout_s=PROCESS_S) as other:
            assert re.fullmatch(r"site-1\.cli-[0-9a-f]{8}", here.cell.fqcn)
            assert here.dialled == "site-1"
            assert here.cell.request("server", CHANNEL, PING_TOPIC).hops == 1
            assert here.cell.request(other.cell.fqcn, CHANNEL, PING_TOPIC).hops == 1


def test_nobody_there_is_told_with_the_last_cause() -> None:
    with pytest.raises(TimedOut, match="nobody answers at tcp://127.0.0.1:1"), joined("tcp://127.0.0.1:1", timeout_s=0.2):
        pass


@pytest.mark.parametrize("text", ["tcp://127.0.0.1:8800", "tcp://*:8800", "tcp://127.0.0.1:*", "ipc:///run/x",
                                  "tcp://[::1]:1"])
def test_addresses_pass_as_they_are(text: str) -> None:
    assert ADDRESS.convert(f" {text} ", None, None) == text


@pytest.mark.parametrize("text", ["", "localhost:8800", "tcp://localhost", "tcp://h:http", "ipc://x",
                                  "inproc://x", "http://a:1"])
def test_what_is_no_address_is_told_with_an_example(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not an address; write for example tcp://127.0.0.1:8800"):
        ADDRESS.convert(text, None, None)
