from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from zdl.assembly import BELOW_TOPIC, SNAPSHOT_TOPIC, WAY_TOPIC, Cell
from zdl.cell.tree import CHANNEL
from zdl.cli.look import Walk, names_below

from processes import Start, ended
from trees import Trees
from waiting import eventually


def test_ls_shows_the_tree_from_the_root_down(run: Start, server: str, relay: str) -> None:
    run("start", "worker", "site-1.w0", "--parent", relay).ready()
    done = ended("ls", "--parent", relay)
    assert (done.code, done.err) == (0, "")
    rows = [line.split("\t") for line in done.lines]
    assert rows[0] == ["fqcn", "state", "links_count", "below_count", "addresses", "rss_bytes", "lent_count", "error"]
    assert [row[:2] for row in rows[1:]] == [["server", "up"], ["site-1", "up"], ["site-1.w0", "up"]]
    assert rows[1][4] == server and rows[2][4] == relay and rows[3][4] == ""
    assert all(int(row[5]) > 1 << 20 for row in rows[1:])
    assert int(rows[2][3]) >= 1 and rows[3][3] == "0"


def test_ls_names_asks_one_cell_for_the_names_below_it(run: Start, server: str, relay: str) -> None:
    worker = run("start", "worker", "site-1.w0", "--parent", relay)
    worker.ready()
    worker.signal(signal.SIGSTOP)  # it is not asked
    with Cell("names", parent=server) as here:
        here.wait_ready()
        eventually(lambda: "site-1.w0" in here.request("server", CHANNEL, BELOW_TOPIC).body)
    done = ended("ls", "--names", "--parent", server)
    worker.signal(signal.SIGCONT)
    names = done.lines
    assert (done.code, names[0]) == (0, "fqcn")
    assert [name for name in names[1:] if not name.startswith("names")] == ["site-1", "site-1.w0"]
    below = ended("ls", "*.w0", "--names", "--root", "site-1", "--json", "--parent", relay)
    assert [json.loads(line) for line in below.lines] == [{"fqcn": "site-1.w0"}]


def test_names_that_are_none_are_left_out(trees: Trees) -> None:
    server, liar = trees.grow("server", "a")
    liar.handler(CHANNEL, BELOW_TOPIC)(lambda request: ["a.b", 3, None, "server"])
    assert names_below(server, "a", timeout_s=5.0) == ["a.b"]


def test_ls_json_and_pattern(server: str, relay: str) -> None:
    done = ended("ls", "site-*", "--json", "--parent", server)
    only, = [json.loads(line) for line in done.lines]
    assert only["fqcn"] == "site-1" and only["addresses"] == [relay] and only["error"] == "" and only["pid"] > 1


def test_ls_peers_shows_each_link_with_its_role_and_whether_it_has_stalled(run: Start, server: str, relay: str) -> None:
    worker = run("start", "worker", "site-1.w0", "--parent", relay)
    worker.ready()
    done = ended("ls", "--peers", "site-1*", "--parent", server)
    rows = [line.split("\t") for line in done.lines]
    assert done.code == 0 and rows[0] == ["fqcn", "peer", "role", "state", "address"]
    assert rows[1:] == [["site-1", "server", "parent", "up", server], ["site-1", "site-1.w0", "child", "up", ""],
                        ["site-1.w0", "site-1", "parent", "up", relay]]
    worker.signal(signal.SIGSTOP)

    def is_stalled() -> bool:
        lines = ended("ls", "--peers", "--json", "--parent", server, "--timeout", "1s").lines
        return {"fqcn": "site-1", "peer": "site-1.w0", "role": "child", "state": "stalled", "address": ""} in map(json.loads, lines)

    try:
        eventually(is_stalled, what="the silence of the worker")
    finally:
        worker.signal(signal.SIGCONT)


def test_ls_json_has_the_peers_of_each_cell(server: str, relay: str) -> None:
    site, = [json.loads(line) for line in ended("ls", "site-1", "--json", "--parent", server).lines]
    assert site["peers"] == [{"peer": "server", "role": "parent", "state": "up", "address": server}]
    assert "way" not in site


@pytest.mark.row("A9")
def test_ls_way_tells_how_messages_go_and_why_not_directly(run: Start, server: str, relay: str) -> None:
    run("start", "worker", "site-1.w0", "--parent", relay).ready()
    done = ended("ls", "--way", "site-1.w0", "--json", "--parent", server)
    rows = {row["fqcn"]: row for row in map(json.loads, done.lines)}
    assert (done.code, done.err) == (0, "")
    assert [(name, row["way"], row["via"]) for name, row in rows.items()] == [
        ("server", "child", "site-1"), ("site-1", "child", "site-1.w0"), ("site-1.w0", "self", "site-1.w0")]
    assert "direct_after_count" in rows["server"]["why"] and rows["site-1"]["why"] == ""
    table = [line.split("\t") for line in ended("ls", "server", "--way", "site-9", "--parent", server).lines]
    assert table[0][:5] == ["fqcn", "state", "way", "via", "why"]
    assert table[1][2:5] == ["none", "", "no link of server leads there"]


def test_ls_answers_one_question_at_a_time_and_about_cells_with_names(server: str) -> None:
    assert ended("ls", "--peers", "--way", "server", "--parent", server).code == 2
    assert ended("ls", "--way", "not a name", "--parent", server).code == 2


def test_the_way_that_a_cell_tells_may_be_anything_or_nothing(trees: Trees) -> None:
    server, liar, old = trees.grow("server", "a", "b")
    liar.handler(CHANNEL, WAY_TOPIC)(lambda request: {"role": 3, "via": None, "why": ["x"]})
    old.handler(CHANNEL, WAY_TOPIC)(lambda request: 1 / 0)
    walk = Walk(server, 5.0)
    walk.walk(["server"])
    walk.ask_way(["a", "b", "server"], "a")
    assert [(walk.seen[name].way, walk.seen[name].via) for name in ("a", "b", "server")] == [("", ""), ("", ""), ("child", "a")]
    assert "ZeroDivisionError" in walk.seen["b"].why


def test_ls_shows_what_is_lent(run: Start, server: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    run("put", tmp_path / "x", "--parent", server).line()
    only, = [json.loads(line) for line in ended("ls", "cli-*", "--json", "--parent", server).lines]
    assert only["lent_count"] == 1


def test_ls_shows_a_cell_that_does_not_answer_with_the_reason(run: Start, server: str, relay: str) -> None:
    worker = run("start", "worker", "site-1.w0", "--parent", relay)
    worker.ready()
    worker.signal(signal.SIGSTOP)
    done = ended("ls", "--json", "--parent", server, "--timeout", "1s")
    worker.signal(signal.SIGCONT)
    rows = [json.loads(line) for line in done.lines]
    assert done.code == 0
    assert [(row["fqcn"], row["state"]) for row in rows] == [
        ("server", "up"), ("site-1", "up"), ("site-1.w0", "unreachable")]
    assert "site-1.w0 did not come within 1" in rows[-1]["error"]


@pytest.mark.row("C8")
def test_ls_of_a_part_that_is_cut_off_shows_that_part_and_the_last_cause(run: Start) -> None:
    server = run("start", "server", "server")
    address = server.address
    relay = run("start", "relay", "site-1", "--parent", address).address
    server.signal(signal.SIGKILL)
    server.process.wait()
    done = ended("ls", "--json", "--parent", relay, "--timeout", "2s")
    rows = {row["fqcn"]: row for row in map(json.loads, done.lines)}
    assert done.code == 3 and done.err.startswith("zdl: no route to server: site-1 could not go on")
    assert rows["server"]["state"] == "unreachable" and rows["site-1"]["state"] == "up"
    assert address in rows["site-1"]["error"]
    assert "the connection was closed" in rows["site-1"]["error"] or "nobody answers at" in rows["site-1"]["error"]


def test_a_cell_speaks_only_for_what_is_below_it() -> None:
    with Cell("server", listen="tcp://127.0.0.1:0") as server, Cell("a", parent=server.addresses[0]) as liar:
        liar.wait_ready()

        @liar.handler(CHANNEL, SNAPSHOT_TOPIC)
        def lie(request: object) -> object:
            names = ["server", "b", "not a name", "a", "a.b.b", 4, "a.ghost"]
            return {"links": [{"role": "child", "lane": "control", "fqcn": name, "state": "up"} for name in names] + [7],
                    "process": 3, "addresses": [4, "tcp://x:1"], "lent_count": "many", "parent_error": None}

        walk = Walk(server, 5.0)
        walk.walk(["server"])
    assert sorted(walk.seen) == ["a", "a.ghost", "server"]
    assert (walk.seen["a"].lent_count, walk.seen["a"].rss_bytes, walk.seen["a"].addresses) == (0, 0, ("tcp://x:1",))
    assert walk.seen["a.ghost"].state == "unreachable"


def test_ping(server: str, relay: str) -> None:
    done = ended("ping", "server", "--count", "5", "--json", "--parent", relay)
    said = json.loads(done.out)
    assert (done.code, said["fqcn"], said["count"], said["hops"]) == (0, "server", 5, 1)
    assert 0 < said["min_us"] <= said["median_us"] <= said["max_us"] < 5e6
    assert ended("ping", "site-1", "--parent", relay).lines[0].startswith("site-1\t4\t0\t")


def test_ping_shows_the_way_there_and_back(server: str, relay: str) -> None:
    done = ended("ping", "server", "--count", "1", "--trace", "--json", "--parent", relay)
    said = json.loads(done.out)
    assert (done.code, said["there"][1:], said["back"][:2]) == (0, ["site-1", "server"], ["server", "site-1"])
    assert said["there"][0] == said["back"][-1] and said["there"][0].startswith("site-1.cli-")
    assert "there" not in json.loads(ended("ping", "server", "--count", "1", "--json", "--parent", relay).out)


@pytest.mark.parametrize("name", ["nobody", "site-1.nobody"])
def test_ping_of_nobody_is_3(server: str, relay: str, name: str) -> None:
    done = ended("ping", name, "--parent", server)
    assert done.code == 3 and done.out == "" and done.err.startswith(f"zdl: no route to {name}: ")


def test_ping_of_what_is_no_name_is_2(server: str) -> None:
    done = ended("ping", "a..b", "--parent", server)
    assert (done.code, done.err) == (2, "zdl: 'a..b' is not a cell name: it has an empty part\n")
