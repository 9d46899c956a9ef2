"""The origin's side of shared memory: bad questions, several processes, other users and namespaces, and deaths at any moment."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from forks import Fork, Forks

from zdl.assembly import Cell
from zdl.download.sharing import SEGMENTS_MAX, Extent, Sharing
from zdl.options import Options, PullOptions
from zdl.refs import Ref

from trees import Trees
from waiting import eventually

MIB = 1 << 20
SHARING = Options(pulls=PullOptions(same_host=True, same_host_bytes_min=1))


def question(ref: Ref, host: str, **more: object) -> dict[str, object]:
    """What a receiver asks."""
    return {"offer": ref.source.offer_id, "secret": ref.source.secret, "host": host, "ranges": [[0, ref.length]], "unread": [],
            "is_kept": False, **more}


def asked(site: Cell, body: object) -> object:
    """What the origin answers."""
    return site.request("server", "zdl", "same-host", body).body


def test_bad_questions_get_a_reason_and_cost_no_memory(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    assert isinstance(Sharing.__doc__, str)
    lent = server.downloads.lend(np.arange(MIB, dtype=np.uint8), receivers=0)
    ref = lent.body
    assert isinstance(ref, Ref)
    host = site.lane.segments.host
    good = question(ref, host)
    for body in (None, 5, [], {}, {**good, "offer": 5}, {**good, "secret": "x"}, {**good, "host": None}, {**good, "ranges": []},
                 {**good, "ranges": [[0, 0]]}, {**good, "ranges": [[-1, 5]]}, {**good, "ranges": [[0, True]]},
                 {**good, "ranges": [[5, 5], [0, 5]]}, {**good, "ranges": [[0, 6], [5, 5]]}, {**good, "ranges": [[0, 1 << 62]]},
                 {**good, "ranges": [[MIB, 1]]}, {**good, "ranges": [[0, MIB + 1]]}, {**good, "unread": [5]},
                 {**good, "secret": bytes(16)}, {**good, "offer": bytes(16)}, {**good, "host": "another"}):
        answer = asked(site, body)
        assert isinstance(answer, dict) and answer["why"] and set(answer) == {"why", "is_lasting"}, body
    assert server.lane.segments.nbytes == 0 and server.downloads._sharing.shares_count == 0
    answer = asked(site, good)
    assert isinstance(answer, dict) and answer["extents"] == [[0, MIB, 0, 0]]
    assert server.lane.segments.nbytes == MIB and server.downloads._sharing.shares_count == 1
    lent.delete()
    eventually(lambda: server.downloads._sharing.shares_count == 0)


def test_a_ticket_is_worth_nothing_when_the_offer_has_ended(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    lent = server.downloads.lend(np.arange(MIB, dtype=np.uint8), receivers=0)
    assert isinstance(lent.body, Ref)
    secret = lent.body.source.secret
    first, second = (asked(site, question(lent.body, site.lane.segments.host)) for _ in range(2))
    assert isinstance(first, dict) and isinstance(second, dict)
    descriptor, = site.lane.segments.fetch(first["address"], first["ticket"], secret, count=1, timeout_s=5.0)
    os.close(descriptor)
    lent.delete()
    eventually(lambda: server.downloads._sharing.shares_count == 0)
    with pytest.raises(ConnectionError):
        site.lane.segments.fetch(second["address"], second["ticket"], secret, count=1, timeout_s=5.0)


def test_an_offer_that_is_asked_for_in_very_many_parts_is_sent_in_the_end(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1", options=SHARING)
    array = np.arange(SEGMENTS_MAX * 2000, dtype=np.uint16)
    lent = server.downloads.lend(array, receivers=0)
    assert isinstance(lent.body, Ref)
    for number in range(SEGMENTS_MAX + 1):
        part = slice(number * 1000, number * 1000 + 500)
        assert np.array_equal(site.downloads.pull(lent.body[part]), array[part])  # type: ignore[arg-type]
    assert "segments already" in site.downloads.transfers[-1].why_not_shared
    assert site.downloads.transfers[-2].way == "memory"
    found = site.downloads.pull(lent.body[:500 + 1000 * (SEGMENTS_MAX - 1)])
    assert np.array_equal(found, array[:500 + 1000 * (SEGMENTS_MAX - 1)])  # type: ignore[arg-type]
    lent.delete()


def test_extents_are_in_the_order_of_the_stream() -> None:
    one, other = Extent(0, 5, None, 0), Extent(3, 1, object(), 9)
    assert sorted([other, one]) == [one, other] and one.end == 5


# --- processes ----------------------------------------------------------------------------------

LEAF = """
size = int(sys.argv[2])
into = {"w": np.ones(size >> 3, np.int64), "b": np.ones(1 << 20, np.uint8)} if sys.argv[3] == "into" else None
def limit(which, value): resource.setrlimit(which, (value, value))
def pages(): return int(open("/proc/self/statm").read().split()[0])
now, when = sys.argv[4], sys.argv[6]
if when == "before": exec(now)
pulls = PullOptions(same_host=True, same_host_bytes_min=1, window_bytes_max=4 << 20)
with Cell(sys.argv[5], parent=sys.argv[1], data_listen=(), options=Options(pulls=pulls)) as cell:
    cell.wait_ready()
    body = cell.downloads.find("server", "it")
    if when == "after": exec(now)
    found = cell.downloads.pull(body, into)
    assert (found["w"][::512] == np.arange(0, size >> 3, 512)).all() and (found["b"] == 7).all()
    say("pulled", cell.downloads.transfers[-1].way, cell.downloads.transfers[-1].why_not_shared)
    stay()
"""


def lending(trees: Trees, size: int, address: str = "tcp://127.0.0.1:0") -> Cell:
    """An origin that lends something of this size."""
    server = trees.add(Cell("server", listen=address, options=Options(close_s=0.2)))
    lent = server.downloads.lend({"w": np.arange(size >> 3, dtype=np.int64), "b": np.full(MIB, 7, np.uint8)}, receivers=0)
    server.downloads.publish("it", lent.body)
    return server


def mappings(label: str) -> dict[tuple[int, int], tuple[int, int]]:
    """Segments with this label in all processes: by process and inode, how much is mapped, and how much of it was written."""
    found: dict[tuple[int, int], tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"memfd:zdl-{label} " not in (path / "maps").read_text(encoding="ascii", errors="replace"):
                continue
            lines = (path / "smaps").read_text(encoding="ascii", errors="replace").splitlines()
        except (OSError, ValueError):  # it has ended
            continue
        key: tuple[int, int] | None = None
        for line in lines:
            words = line.split()
            if not words[0].endswith(":"):
                key = (int(path.name), int(words[4])) if f"memfd:zdl-{label} " in line else None
            elif key is not None and words[0] in ("Size:", "Anonymous:"):
                mapped, own = found.get(key, (0, 0))
                count = int(words[1]) * 1024
                found[key] = (mapped + count, own) if words[0] == "Size:" else (mapped, own + count)
    return found


@pytest.mark.row("Z3")
def test_four_leaves_take_no_more_memory_than_one(trees: Trees) -> None:
    size = 32 * MIB
    server = lending(trees, size)
    with Forks() as forks:
        leaves = [forks.start(LEAF, server.addresses[0], str(size), "", "", f"leaf-{number}", "") for number in range(4)]
        assert [each.expect("pulled") for each in leaves] == ["memory"] * 4
        pids = {os.getpid(), *(each.pid for each in leaves)}  # another run of these tests has a server too
        seen = {key: sizes for key, sizes in mappings("server").items() if key[0] in pids}
    assert len({inode for _, inode in seen}) == 1
    assert {pid for pid, _ in seen} == pids
    assert all(mapped >= size for (pid, _), (mapped, _) in seen.items() if pid != os.getpid())
    assert sum(own for _, own in seen.values()) <= 0.05 * size


@pytest.mark.row("Z3")
def test_other_users_small_limits_and_other_namespaces(trees: Trees) -> None:
    size = 96 * MIB
    server = lending(trees, size, trees.address("ipc"))
    trees.folder.chmod(0o755)
    Path(server.addresses[0].removeprefix("ipc://")).chmod(0o777)
    with Forks(MALLOC_ARENA_MAX="1") as forks:
        for step, when, into, way, why in (
                ("limit(resource.RLIMIT_NOFILE, 100)", "before", "into", "memory", ""),
                ("os.setuid(65534)", "before", "", "memory", ""),
                ("limit(resource.RLIMIT_AS, pages() * 4096 + (64 << 20))", "after", "into", "direct", "Cannot allocate memory"),
                ("assert ctypes.CDLL(None).unshare(0x40000000) == 0", "before", "into", "direct", "another network namespace")):
            if ("setuid" in step or "unshare" in step) and os.getuid() != 0:
                continue  # only root can be somebody else, or somewhere else
            leaf = forks.start(LEAF, server.addresses[0], str(size), into, step, "leaf", when)
            found = leaf.expect("pulled")
            assert found.startswith(way) and why in found, (step, found)
            leaf.kill()
            eventually(lambda: not server.peers)


# --- deaths -------------------------------------------------------------------------------------

DYING = """
offers = OfferOptions(segments_bytes_max=16 << 20)
options = Options(offers=offers, pulls=PullOptions(same_host=True, same_host_bytes_min=1, lost_timeout_s=0.5))
with Cell(sys.argv[2], parent=sys.argv[1], options=options) as cell:
    cell.wait_ready()
    say("ready")
    step, kept, into = 0, [], np.empty(1 << 19, np.int64)
    while True:
        step += 1
        if sys.argv[3] == "origin":
            lent = cell.downloads.lend(np.full(1 << 19, step), receivers=1, lease_s=5.0)
            cell.downloads.publish("it", lent.body)
            lent.wait()
        else:
            try:
                found = cell.downloads.pull(cell.downloads.find(sys.argv[3], "it", timeout_s=0.5), into if step % 3 == 0 else None)
            except ZdlError:
                continue
            assert (found == found[0]).all()
            if found is not into:
                kept = [*kept[-1:], (found, int(found[0]))]
            assert all((each == first).all() for each, first in kept)
            say("pulled", cell.downloads.transfers[-1].way)
"""
# The origin's at most, what a leaf holds of former ones, and the one that it copies out of.
SEGMENTS_AT_ONCE = 4 + 2 + 1


def die(kills: int, label: str, seed: int) -> dict[tuple[int, int], tuple[int, int]]:
    """Origin and leaf are killed at random, and in between there is never more than they may have. Returns what is left."""
    chance = random.Random(seed)
    names = {"origin": label, "leaf": "leaf"}
    with Trees() as trees, Forks() as forks:
        root, = trees.grow("server")
        living: dict[str, Fork] = {}
        for kill in range(kills):
            for role, name in names.items():
                if role not in living:
                    living[role] = forks.start(DYING, root.addresses[0], name, "origin" if role == "origin" else label)
                    living[role].expect("ready")
            for _ in range(chance.randint(1, 6)):
                living["leaf"].expect("pulled")
            victim = chance.choice(sorted(names)) if kill % 3 else "both"
            for role in sorted(names) if victim == "both" else [victim]:
                living.pop(role).kill()
            seen = mappings(label)
            assert len({inode for _, inode in seen}) <= SEGMENTS_AT_ONCE, seen
            assert {pid for pid, _ in seen} <= {each.pid for each in living.values()}
            assert sum(own for _, own in seen.values()) == 0
        for each in living.values():
            each.kill()
        return mappings(label)


@pytest.mark.row("Z3")
def test_a_killed_origin_and_a_killed_leaf_leave_nothing() -> None:
    assert die(6, "mortal", seed=os.getpid()) == {}


@pytest.mark.system
@pytest.mark.skipif("ZDL_SYSTEM" not in os.environ, reason="it takes a minute: ZDL_SYSTEM=1")
@pytest.mark.row("Z3")
def test_two_hundred_deaths_leave_nothing() -> None:
    assert die(200, "mortals", seed=200) == {}
