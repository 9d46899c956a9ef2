"""Schemes: the three ways to connect, and what is bound apart from what is advertised; see also `tests/contract`."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from zdl.assembly import Cell
from zdl.errors import OptionError

from processes import Zdl
from trees import SCHEMES, Trees, sent
from waiting import PATIENCE_S


def echo(cell: Cell) -> Cell:
    cell.handler("task", "echo")(lambda request: request.body)
    return cell


@pytest.mark.row("C2")
def test_c2_one_tree_may_be_of_all_three_kinds(trees: Trees) -> None:
    server = echo(trees.add(Cell("server", listen=[trees.address(scheme) for scheme in SCHEMES])))
    array = np.arange(1_000_000)
    sites = []
    for number, address in enumerate(server.addresses):
        site = echo(trees.add(Cell(f"site-{number}", parent=address, listen=trees.address(SCHEMES[number - 1]))))
        sites += [site, echo(trees.add(Cell(f"site-{number}.w0", parent=site.addresses[0])))]
    for one in sites:
        for other in sites:
            assert one.request(other.fqcn, "task", "echo", one.fqcn).body == one.fqcn
    found = sites[1].request("site-2.w0", "task", "echo", array).body
    assert np.array_equal(found, array)


@pytest.mark.row("C2")
def test_c2_ipc_and_tcp_join_processes(tmp_path: Path) -> None:
    for listen in ("tcp://127.0.0.1:0", f"ipc://{tmp_path}/s"):
        with Zdl("start", "server", "server", "--listen", listen) as server:
            with Cell("site-1", parent=server.address) as site:
                assert site.request("server", "zdl", "ping", timeout_s=PATIENCE_S).body is None
            assert server.stopped().code == 0


@pytest.mark.row("C6")
@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:0", "tcp://localhost:0", "tcp://[::1]:0", "tcp://127.0.0.1:*"])
def test_c6_a_random_port_is_taken_and_told(trees: Trees, listen: str) -> None:
    cells = [trees.add(Cell("server", listen=listen)) for _ in range(2)]
    ports = [int(address.rpartition(":")[2]) for cell in cells for address in (*cell.addresses, *cell.data_addresses)]
    assert len(set(ports)) == 4 and min(ports) > 0
    for cell in cells:
        echo(cell)
        with Cell("site-1", parent=cell.addresses[0]) as site:
            assert site.request("server", "task", "echo", 1).body == 1


@pytest.mark.row("C6")
def test_c6_a_given_port_is_the_one(trees: Trees) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    assert trees.add(Cell("server", listen=address)).addresses == (address,)


@pytest.mark.row("C6")
@pytest.mark.parametrize("listen", ["tcp://*:0", "tcp://0.0.0.0:0", "tcp://[::]:0"])
def test_c6_a_wildcard_listens_everywhere_and_is_told_by_a_name_that_can_be_dialled(trees: Trees, listen: str) -> None:
    server = echo(trees.add(Cell("server", listen=listen, insecure=True, advertise="localhost")))
    port = server.addresses[0].rpartition(":")[2]
    assert server.addresses == (f"tcp://localhost:{port}",)
    assert [each.rpartition(":")[0] for each in server.data_addresses] == ["tcp://localhost"]
    hosts = ("[::1]", "localhost") if "::" in listen else ("127.0.0.1", "localhost")
    for number, host in enumerate(hosts):
        site = trees.add(Cell(f"site-{number}", parent=f"tcp://{host}:{port}"))
        assert site.request("server", "task", "echo", np.ones(500_000)).body.sum() == 500_000  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="insecure=True"):
        Cell("server", listen=listen).start()


@pytest.mark.row("C6")
def test_c6_what_is_advertised_is_what_others_dial_though_another_address_is_bound(trees: Trees) -> None:
    """Two bare addresses of this machine; the one that is told is not the one that the tree was dialled by."""
    server = trees.add(Cell("server", listen="tcp://*:0", insecure=True, advertise="127.0.0.2"))
    port = server.addresses[0].rpartition(":")[2]
    assert server.addresses == (f"tcp://127.0.0.2:{port}",)
    one = trees.add(Cell("site-1", parent=f"tcp://127.0.0.1:{port}", listen="tcp://*:0", insecure=True, advertise="127.0.0.3"))
    two = trees.add(Cell("site-2", parent=server.addresses[0], options=sent()))
    lent = one.downloads.lend(np.arange(1_000_000))
    found = two.downloads.pull(lent.body)  # type: ignore[arg-type]
    assert np.array_equal(found, np.arange(1_000_000))  # type: ignore[arg-type]
    assert two.downloads.transfers[-1].way == "direct"
    assert any(peer.address.startswith("tcp://127.0.0.3:") for peer in two.peers), "it was dialled as advertised"


@pytest.mark.row("C6")
def test_c6_local_addresses_are_told_as_they_are(trees: Trees) -> None:
    listen = [trees.address("ipc"), trees.address("inproc"), "tcp://127.0.0.1:0"]
    server = trees.add(Cell("server", listen=listen, advertise="gpu-7.example.org"))
    assert server.addresses[:2] == tuple(listen[:2])
    assert server.addresses[2].startswith("tcp://gpu-7.example.org:")


@pytest.mark.row("C6")
@pytest.mark.parametrize(("host", "told"), [
    ("::1", "[::1]"), ("[fe80::7]", "[fe80::7]"), ("10.0.0.5", "10.0.0.5"), ("gpu_7", "gpu_7"),
    ("a.example.org.", "a.example.org.")])
def test_c6_a_host_may_be_named_or_numbered(trees: Trees, host: str, told: str) -> None:
    server = trees.add(Cell("server", listen="tcp://127.0.0.1:0", advertise=host))
    assert server.addresses[0].rpartition(":")[0] == f"tcp://{told}"


@pytest.mark.row("C6")
@pytest.mark.parametrize("host", ["", "tcp://x", "x:1", "a b", "*", "-x", "[::1", "x/y", "é"])
def test_c6_what_is_no_host_is_refused_and_nothing_is_left_bound(host: str) -> None:
    cell = Cell("server", listen="tcp://127.0.0.1:0", advertise=host)
    with pytest.raises(OptionError, match="advertise"):
        cell.start()
    assert cell.addresses == () and cell.close() == []


@pytest.mark.row("C6")
def test_c6_a_cell_of_the_command_line_advertises_too() -> None:
    with Zdl("start", "server", "server", "--listen", "tcp://*:0", "--insecure", "--advertise", "localhost") as server:
        facts = server.ready()
        told = [address.rpartition(":")[0] for address in (*facts["addresses"], *facts["data_addresses"])]
        assert told == ["tcp://localhost"] * 2
        with Cell("site-1", parent=facts["addresses"][0]) as site:
            assert site.request("server", "zdl", "ping", timeout_s=PATIENCE_S).body is None
        assert server.stopped().code == 0
