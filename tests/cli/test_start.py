from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zdl.assembly import CHANNEL, SNAPSHOT_TOPIC, Cell
from zdl.cli.joining import joined
from zdl.cli.main import main
from zdl.errors import Closed, ZdlError

from processes import PROCESS_S, ROOT, Start, ended, environment, words_of
from waiting import eventually

# A handler that says by one pipe that it runs, and waits at another one until it may return.
TRAIN = """
def register(cell):
    @cell.handler("task", "wait")
    def wait(request):
        open(request.body["began"], "w").close()
        return open(request.body["go"]).read()
    @cell.handler("task", "who")
    def who(request):
        return cell.fqcn

"""


def is_draining(cell: Cell, target: str) -> bool:
    """Whether a cell takes no more work."""
    try:
        cell.request(target, CHANNEL, SNAPSHOT_TOPIC, timeout_s=PROCESS_S)
    except Closed:
        return True
    except ZdlError:
        return False
    return False


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """A folder with a module ``train`` in it, and the pipes of its handler."""
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "needy.py").write_text("import something_absent", encoding="utf-8")
    (tmp_path / "broken.py").write_text("def register(cell): raise ValueError('no weights')", encoding="utf-8")
    os.mkfifo(tmp_path / "began")
    os.mkfifo(tmp_path / "go")
    return tmp_path


# --- becoming ready -----------------------------------------------------------------------------


def test_a_server_says_where_it_is_and_ends_with_0_on_sigterm(run: Start, tmp_path: Path) -> None:
    ready_file = tmp_path / "ready"
    server = run("start", "server", "server", "--ready-file", ready_file)
    facts = server.ready()
    assert facts["fqcn"] == "server" and facts["pid"] == server.process.pid
    assert facts["addresses"][0].startswith("tcp://127.0.0.1:") and facts["data_addresses"]
    eventually(ready_file.exists)
    assert json.loads(ready_file.read_text()) == facts
    assert server.line().split("\t")[:2] == ["server", facts["addresses"][0]]
    done = server.stopped()
    assert (done.code, done.err) == (0, "")
    assert not ready_file.exists(), "who reads it must not take a cell that has ended for a ready one"


def test_sigint_ends_in_order_with_130(run: Start) -> None:
    server = run("start", "server", "server")
    server.ready()
    server.signal(signal.SIGINT)
    assert server.ended().code == 130


def test_json_says_it_on_stdout_too(run: Start) -> None:
    server = run("start", "server", "server", "--json")
    assert json.loads(server.line()) == server.ready()


def test_a_terminal_gets_the_line_to_paste_next(server: str) -> None:
    main_end, end = pty.openpty()
    with subprocess.Popen(words_of("start", "relay", "site-1", "--parent", server), cwd=ROOT, env=environment(),
                          stdin=subprocess.DEVNULL, stdout=end) as process:
        shown = ""
        while "next: " not in shown or not shown.endswith("\n"):
            shown += os.read(main_end, 4096).decode()
        process.terminate()
    os.close(end)
    os.close(main_end)
    assert "site-1 is ready at tcp://127.0.0.1:" in shown
    assert "next: zdl start worker site-1.w0 --parent tcp://127.0.0.1:" in shown


def test_a_name_that_is_taken_is_6(server: str, relay: str) -> None:
    done = ended("start", "worker", "site-1", "--parent", server)
    assert done.code == 6
    assert done.err.startswith("zdl: server refused (name-taken): another site-1 ") and done.err.count("\n") == 1


def test_a_name_that_is_not_below_is_6_and_says_which_would_do(relay: str) -> None:
    done = ended("start", "worker", "w0", "--parent", relay)
    assert done.code == 6 and "name it site-1.w0" in done.err


def test_a_parent_that_is_not_there_is_4_with_the_last_cause() -> None:
    done = ended("start", "worker", "w0", "--parent", "tcp://127.0.0.1:1", "--timeout", "300ms")
    assert done.code == 4 and done.err.count("\n") == 1
    assert "nobody answers at tcp://127.0.0.1:1" in done.err


def test_sigterm_ends_a_cell_that_still_waits_for_its_parent(run: Start) -> None:
    worker = run("start", "worker", "w0", "--parent", "tcp://127.0.0.1:1", "--timeout", "1h", "-v")
    assert worker.process.stderr is not None
    eventually(lambda: signal.SIGTERM in _caught(worker.process.pid), PROCESS_S)
    assert worker.stopped().code == 0


def _caught(pid: int) -> set[int]:
    """The signals that a process catches."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), 16)
    return {number for number in range(1, 32) if mask >> (number - 1) & 1}


@pytest.mark.parametrize(("words", "said"), [
    (["worker", "w0"], "a worker needs --parent"),
    (["relay", "site-1"], "a relay needs --parent"),
    (["server", "server", "--parent", "tcp://127.0.0.1:1"], "a server is the root"),
    (["server", "server", "--listen", "tcp://0.0.0.0:0"], "without keys only ipc and loopback addresses are bound"),
    (["server", "server", "--listen", "tcp://0.0.0.0:0"], "; on the command line: --insecure"),
    (["server", "server", "--load", "train"], "is not MODULE:FUNCTION"),
    (["server", "server", "--load", "no_such_module:register"], "there is no module no_such_module"),
    (["server", "server", "--load", "zdl.no_such_module:register"], "there is no module zdl.no_such_module"),
    (["server", "server", "--load", "zdl.fqcn:register"], "has no function of the name register"),
    (["server", "server", "--load", "zdl.fqcn:ROOT"], "has something that cannot be called of the name ROOT"),
])
def test_what_cannot_be_started_is_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1


def test_a_server_does_not_mind_the_parent_of_others(run: Start) -> None:
    assert run("start", "server", "server", ZDL_PARENT="tcp://127.0.0.1:1").ready()["fqcn"] == "server"


# --- loading ------------------------------------------------------------------------------------


def test_what_is_loaded_from_the_current_folder_answers(run: Start, train: Path) -> None:
    server = run("start", "server", "server", "--load", "train:register", cwd=train)
    with joined(server.address, timeout_s=PROCESS_S) as here:
        assert here.cell.request("server", "task", "who").body == "server"


def test_what_a_loaded_module_lacks_is_told(train: Path) -> None:
    done = ended("start", "server", "server", "--load", "needy:register", cwd=train)
    assert done.code == 2 and "needy needs something_absent, which is not installed" in done.err


def test_what_a_loaded_function_raises_is_told(train: Path) -> None:
    done = ended("start", "server", "server", "--load", "broken:register", cwd=train)
    assert (done.code, done.err) == (1, "zdl: ValueError: no weights; zdl -v … shows where\n")


# --- ending -------------------------------------------------------------------------------------


def test_sigterm_lets_a_running_handler_finish_and_its_reply_arrive(run: Start, train: Path) -> None:
    server = run("start", "server", "server", "--load", "train:register", "--grace", "60s", cwd=train)
    with joined(server.address, timeout_s=PROCESS_S) as here:
        body = {"began": str(train / "began"), "go": str(train / "go")}
        waiting = here.cell.request_future("server", "task", "wait", body)
        (train / "began").read_text()
        server.signal(signal.SIGTERM)
        eventually(lambda: is_draining(here.cell, "server"), PROCESS_S)
        (train / "go").write_text("done")
        assert waiting.result(PROCESS_S).body == "done"
    assert server.ended().code == 0


def test_what_runs_beyond_the_grace_is_told_and_left(run: Start, train: Path) -> None:
    server = run("start", "server", "server", "--load", "train:register", "--grace", "100ms", cwd=train)
    with joined(server.address, timeout_s=PROCESS_S) as here:
        waiting = here.cell.request_future("server", "task", "wait", {"began": str(train / "began"), "go": str(train / "go")})
        (train / "began").read_text()
        done = server.stopped()
        assert done.code == 0 and "server: 1 handlers are still running" in done.err
        waiting.cancel()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(run: Start, train: Path, second: signal.Signals) -> None:
    server = run("start", "server", "server", "--load", "train:register", "--grace", "1h", cwd=train)
    with joined(server.address, timeout_s=PROCESS_S) as here:
        waiting = here.cell.request_future("server", "task", "wait", {"began": str(train / "began"), "go": str(train / "go")})
        (train / "began").read_text()
        server.signal(signal.SIGTERM)
        eventually(lambda: is_draining(here.cell, "server"), PROCESS_S)
        server.signal(second)
        assert server.ended().code == -second
        waiting.cancel()


def test_until_eof_ends_it_in_order(run: Start) -> None:
    server = run("start", "server", "server", "--until-eof")
    server.ready()
    assert server.process.stdin is not None
    server.process.stdin.close()
    assert server.ended().code == 0


# Starts a cell whose input it holds, says so, and waits.
SUPERVISOR = """
import subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
sys.stdin.read()
"""


def test_a_supervisor_that_is_killed_takes_its_cells_along() -> None:
    words = words_of("start", "server", "server", "--until-eof")
    with subprocess.Popen([sys.executable, "-c", SUPERVISOR, *words], cwd=ROOT, env=environment(), stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline().startswith(b"server\t")
        supervisor.kill()
        # The cell holds the other end of this pipe: that ends when the cell does.
        assert supervisor.stdout.read() == b""


def test_kill_9_leaves_nothing_that_stands_in_the_way_of_the_next_start(run: Start, tmp_path: Path) -> None:
    listen = f"ipc://{tmp_path}/server"
    words = ("start", "server", "server", "--listen", listen)
    first = run(*words)
    assert first.ready()["addresses"] == [listen]
    worker = run("start", "worker", "w0", "--parent", listen, XDG_RUNTIME_DIR=str(tmp_path))
    worker.ready()
    folder = tmp_path / f"zdl-{os.getuid()}"
    assert list(folder.iterdir()), "a leaf of an ipc parent lends through a socket in the folder of its user"
    for each in (first, worker):
        each.process.kill()
        each.process.wait()
    second = run(*words)
    second.ready()
    again = run("start", "worker", "w0", "--parent", listen, XDG_RUNTIME_DIR=str(tmp_path))
    again.ready()
    assert len(list(folder.iterdir())) == 1, "what the first one left is gone"
    assert (again.stopped().code, second.stopped().code) == (0, 0)
    assert not list(folder.iterdir())


def test_a_descriptor_that_was_not_given_is_told() -> None:
    read, write = os.pipe()  # not inherited
    for descriptor in (3, read, write, 1_000_000):
        done = ended("start", "server", "server", "--ready-fd", str(descriptor))
        assert done.code == 2 and f"--ready-fd {descriptor}: this process was given no such descriptor" in done.err
    os.close(read)
    os.close(write)
