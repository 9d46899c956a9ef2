"""Two hosts: processes in network namespaces of their own, joined by a cable that can be pulled. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from children import Child
from waiting import PATIENCE_S, eventually

BEAT_S = 0.25
# Where each of the two has its end of the cable; the network is one that documents may use.
HERE, THERE = "192.0.2.1", "192.0.2.2"
PROGRAM = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
namespace = os.open("/var/run/netns/" + sys.argv[1], os.O_RDONLY)
assert libc.setns(namespace, 0) == 0
options = Options(links=LinkOptions(heartbeat_s={BEAT_S}, redial_max_s=0.2))
""" + """
is_server = sys.argv[2] == "server"
cell = Cell(sys.argv[2], parent=None if is_server else "tcp://192.0.2.1:8800", listen=["tcp://192.0.2.1:8800"] if is_server else [],
            data_listen=[] if is_server else ["tcp://192.0.2.2:0"], insecure=True, options=options)
cell.handler("task", "echo")(lambda request: request.body)
cell.handler("task", "wait")(lambda request: threading.Event().wait(60))
cell.start(); cell.wait_ready(30)
other = "site-1" if is_server else "server"
say("ready")
for line in sys.stdin:
    word = line.strip()
    if word == "wait":
        call = cell.request_future(other, "task", "wait", timeout_s=None)
        say("waits")
    elif word == "lost":
        while not call.done(): threading.Event().wait(0.01)
        say("lost", type(call.exception(60)).__name__, str(call.exception(60)).split(": ")[-1].split()[0])
    elif word == "peers":
        say("peers", *sorted(peer.fqcn for peer in cell.peers if peer.lane == "control" and peer.state == "up"))
    elif word == "echo":
        say("echo", cell.request(other, "task", "echo", "back", timeout_s=30).body)
"""


def can_make_hosts() -> bool:
    """Whether this process may make network namespaces and cables."""
    if os.geteuid() or not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", "zdl-probe"], capture_output=True).returncode == 0
    subprocess.run(["ip", "netns", "del", "zdl-probe"], capture_output=True)
    return made


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Hosts:
    """Two namespaces and the cable between them."""

    def __init__(self) -> None:
        self.names = tuple(f"zdl-{os.getpid()}-{side}" for side in "ab")
        for name in self.names:
            ip("netns", "add", name)
        ends = [f"zdl{os.getpid() % 100_000}{side}" for side in "ab"]
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(self.names, ends, (HERE, THERE), strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "link", "set", end, "name", "cable")
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")

    def blackhole(self, *sides: int) -> None:
        """What these sides send to the other one is lost without a word."""
        for side in sides:
            ip("-n", self.names[side], "route", "add", "blackhole", f"{(THERE, HERE)[side]}/32")

    def heal(self, *sides: int) -> None:
        """It arrives again."""
        for side in sides:
            ip("-n", self.names[side], "route", "del", "blackhole", f"{(THERE, HERE)[side]}/32")

    def close(self) -> None:
        """Both are gone, and with them the cable."""
        for name in self.names:
            ip("netns", "del", name)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    if not can_make_hosts():
        pytest.skip("needs root and the command ip, to make network namespaces")
    made = Hosts()
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.parametrize(("sides", "row"), [
    pytest.param((0, 1), "n1", marks=pytest.mark.fault("N1")), pytest.param((0,), "n2", marks=pytest.mark.fault("N2")),
    pytest.param((1,), "n2", marks=pytest.mark.fault("N2"))])
def test_n1_n2_n3_hosts_that_stop_hearing_each_other_both_know_and_find_back(
        hosts: Hosts, sides: tuple[int, ...], row: str) -> None:
    with Child(PROGRAM, hosts.names[0], "server") as server:
        server.expect("ready")
        with Child(PROGRAM, hosts.names[1], "site-1") as site:
            site.expect("ready")
            for each in (server, site):
                each.say("wait")
                each.expect("waits")
            hosts.blackhole(*sides)
            for each in (server, site):
                each.say("lost")
                kind, how = each.expect("lost").split()
                assert kind == "PeerLost", how
            hosts.heal(*sides)

            def is_back() -> bool:
                server.say("peers")
                return server.expect("peers") == "site-1"

            eventually(is_back, PATIENCE_S, what="the way back")
            for each in (server, site):
                each.say("echo")
                assert each.expect("echo") == "back"
