"""Lanes: where the data lane listens, and what is left when an address cannot be had."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import zmq

from zdl.assembly import Cell
from zdl.errors import OptionError
from zdl.options import LinkOptions, Options
from zdl.transport.lanes import Lanes, data_address_of, derive_data_addresses, first_id, private_folder, runtime_folder, wait_until

from trees import Trees
from waiting import eventually

INCARNATION = bytes(range(16))


@pytest.mark.parametrize(("listen", "parent", "expected"), [
    (("tcp://127.0.0.1:8800",), None, ("tcp://127.0.0.1:0",)),
    (("tcp://10.0.0.5:8800",), "tcp://10.0.0.1:8800", ("tcp://10.0.0.5:0",)),
    (("ipc:///run/x",), None, ("ipc:///run/x.data",)),
    (("inproc://x",), None, (f"inproc://zdl-data-{INCARNATION.hex()}",)),
    (("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"), None, ("tcp://127.0.0.1:0",)),
    (("tcp://127.0.0.1:1", "ipc:///run/x"), None, ("tcp://127.0.0.1:0", "ipc:///run/x.data")),
    ((), "tcp://127.0.0.1:8800", ("tcp://127.0.0.1:0",)),
    ((), "inproc://x", (f"inproc://zdl-data-{INCARNATION.hex()}",)),
    ((), "tcp://10.0.0.1:8800", ()),
    ((), None, ()),
])
def test_the_data_lane_listens_beside_the_control_lane(listen: tuple[str, ...], parent: str | None,
                                                       expected: tuple[str, ...]) -> None:
    assert derive_data_addresses(listen, parent, INCARNATION) == expected


@pytest.mark.parametrize(("parent", "addresses", "expected"), [
    ("tcp://10.0.0.1:8800", ("inproc://x", "ipc:///x", "tcp://127.0.0.1:1", "tcp://10.0.0.1:2"), "tcp://10.0.0.1:2"),
    ("tcp://relay:8800", ("inproc://x", "ipc:///x", "tcp://10.0.0.1:2"), "tcp://10.0.0.1:2"),
    ("ipc:///y", ("tcp://127.0.0.1:1", "ipc:///x"), "ipc:///x"),
    ("inproc://y", ("tcp://127.0.0.1:1", "inproc://x"), "inproc://x"),
    ("tcp://127.0.0.1:1", ("inproc://x", "ipc:///x"), "ipc:///x"),
    ("tcp://127.0.0.1:1", ("inproc://x",), None),
    ("tcp://127.0.0.1:1", (), None),
])
def test_a_parents_data_lane_is_reached_the_way_the_parent_was(parent: str, addresses: tuple[str, ...],
                                                               expected: str | None) -> None:
    assert data_address_of(parent, addresses) == expected


def test_a_child_of_an_ipc_parent_listens_in_the_users_own_folder() -> None:
    (address,) = derive_data_addresses((), "ipc:///run/x", INCARNATION)
    path = Path(address.removeprefix("ipc://"))
    assert path.parent == runtime_folder()
    assert path.name == f"{os.getpid()}-{INCARNATION.hex()[:12]}"


def test_the_users_folder_is_private_and_swept(tmp_path: Path) -> None:
    folder = private_folder(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    kept = [folder / name for name in (f"{os.getpid()}-aa", "notes", "99999999999999999999-cc", "\u00b2-dd")]
    gone = folder / f"{ended.pid}-bb"
    for path in (*kept, gone):
        path.touch()
    assert private_folder(tmp_path) == folder
    assert sorted(folder.iterdir()) == sorted(kept), "what a dead process left is removed, nothing else"


def test_a_folder_that_others_may_enter_is_not_used(tmp_path: Path) -> None:
    private_folder(tmp_path).chmod(0o755)
    with pytest.raises(OptionError, match="yours alone"):
        private_folder(tmp_path)


def test_a_folder_that_is_a_link_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"zdl-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OptionError, match="yours alone"):
        private_folder(tmp_path)


def test_ids_begin_at_a_random_place_with_room_to_count() -> None:
    drawn = [first_id() for _ in range(100)]
    assert len(set(drawn)) == 100
    assert max(drawn) < 1 << 62


def test_waiting_tells_whether_it_came_true() -> None:
    assert wait_until(lambda: True, 0.0)
    assert not wait_until(lambda: False, 0.0)
    done = threading.Event()
    threading.Timer(0.01, done.set).start()
    assert wait_until(done.is_set, 30.0)


def test_an_address_that_is_taken_leaves_nothing_open(trees: Trees) -> None:
    (server,) = trees.grow("server")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OptionError, match="in use"):
            Lanes("server", parent=None, listen=("tcp://127.0.0.1:0", server.addresses[0]), data_listen=(),
                  is_insecure=False, options=Options())
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_libzmq_does_not_close_in_time_is_told_and_closed_later() -> None:
    lanes = Lanes("server", parent=None, listen=("tcp://127.0.0.1:0",), data_listen=(), is_insecure=False, options=Options())
    lanes.control_loop.links.close()
    lanes.data_loop.links.close()
    # A socket of which this context knows nothing, so that it waits for it.
    alien: zmq.Socket[bytes] = zmq.Context.shadow(lanes._context.underlying).socket(zmq.PAIR)
    assert lanes.close(0.0) == ["libzmq is still closing the connections"]
    names = [each.name for each in threading.enumerate()]
    assert "zdl-sockets-end" in names
    alien.close(0)
    eventually(lambda: "zdl-sockets-end" not in [each.name for each in threading.enumerate()], what="the end of the context")


def test_a_lost_parents_data_lane_is_dialled_when_the_control_lane_has_it_again(trees: Trees) -> None:
    options = Options(links=LinkOptions(redial_max_s=0.05))
    (server,) = trees.grow("server")
    address, data_address = server.addresses[0], server.data_addresses[0]
    site = trees.add(Cell("site-1", parent=address, options=options))
    eventually(lambda: len(site.peers) == 2, what="both links")
    peers, others = site._open_lanes().control_loop.switch.peers, site._open_lanes().data_loop.switch.peers
    server.close()
    eventually(lambda: others.redial.is_resting and peers.redial.at is not None, what="the end of both links")
    control_tries, data_tries = peers._next_link, others._next_link
    eventually(lambda: peers._next_link > control_tries + 10, what="five tries of the control lane")
    assert others._next_link - data_tries <= 2, "one try of the data lane may have been under way"
    again = trees.add(Cell("server", listen=address))
    assert again.data_addresses[0] != data_address
    eventually(lambda: sorted((each.fqcn, each.state, each.lane) for each in site.peers) == [
        ("server", "up", "control"), ("server", "up", "data")], what="both links")
    assert not others.redial.is_resting
