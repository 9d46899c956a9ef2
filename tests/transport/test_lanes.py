"""Lanes: where the data lane listens, and what is left when an address cannot be had."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zdl.errors import OptionError
from zdl.options import Options
from zdl.transport.lanes import Lanes, data_address_of, derive_data_addresses, first_id, private_folder, runtime_folder, wait_until

from trees import Trees

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
