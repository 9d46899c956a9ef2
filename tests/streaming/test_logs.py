"""A log is followed over growth, rotation and truncation."""

from __future__ import annotations

import threading
from pathlib import Path

from zdl.streaming.logs import follow
from zdl.streaming.reader import StreamReader

from trees import Trees
from waiting import PATIENCE_S, eventually


class Memory:
    """Takes what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def test_growth_rotation_and_truncation_are_followed_and_nothing_comes_twice(tmp_path: Path) -> None:
    path, taken, stop = tmp_path / "log", Memory(), threading.Event()
    counts: list[int] = []
    following = threading.Thread(target=lambda: counts.append(follow(path, taken, stop, poll_s=0.002)))
    following.start()
    path.write_bytes(b"one\n")
    eventually(lambda: taken.data == b"one\n", what="a file that was not there in the beginning")
    with path.open("ab") as log:
        log.write(b"two\n")
    eventually(lambda: taken.data == b"one\ntwo\n")
    path.rename(tmp_path / "log.1")
    with (tmp_path / "log.1").open("ab") as log:
        log.write(b"last of the old\n")
    path.write_bytes(b"first of the new\n")
    eventually(lambda: taken.data.endswith(b"last of the old\nfirst of the new\n") or taken.data.endswith(b"first of the new\n"))
    path.write_bytes(b"cut\n")
    eventually(lambda: taken.data.endswith(b"cut\n"))
    with path.open("ab") as log:
        log.write(b"end\n")
    stop.set()
    following.join(PATIENCE_S)
    assert taken.data.endswith(b"cut\nend\n") and counts == [len(taken.data)]
    assert taken.data.count(b"one\n") == taken.data.count(b"first of the new\n") == 1


def test_what_is_there_already_may_be_left_out(tmp_path: Path) -> None:
    path, taken, stop = tmp_path / "log", Memory(), threading.Event()
    path.write_bytes(b"old\n")
    stop.set()
    assert follow(path, taken, stop, from_start=False) == 0 and taken.data == b""
    assert follow(path, taken, stop) == 4 and taken.data == b"old\n"


def test_a_log_is_streamed_through_a_relay_while_it_grows(trees: Trees, tmp_path: Path) -> None:
    server, _, worker = trees.grow("server", "site-1", "site-1.w")
    seen: list[bytes] = []

    @server.streams.on_stream("log", "worker")
    def tail(stream: StreamReader) -> None:
        while piece := stream.read(4096):
            seen.append(piece)

    path, stop = tmp_path / "log", threading.Event()
    path.write_bytes(b"one\n")
    out = worker.streams.open("log", "worker", "server")
    following = threading.Thread(target=lambda: follow(path, out, stop, poll_s=0.002))
    following.start()
    eventually(lambda: b"".join(seen) == b"one\n")
    with path.open("ab") as log:
        log.write(b"two\n")
    assert eventually(lambda: b"".join(seen) == b"one\ntwo\n")
    stop.set()
    following.join(PATIENCE_S)
    out.close(PATIENCE_S)
