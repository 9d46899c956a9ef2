from __future__ import annotations

import click
import pytest

from zdl.cli.failing import LINE_CHARS_MAX, Partial, exit_code, line, one_line, printed
from zdl.errors import IntegrityError, NoRoute, OptionError, PeerLost, Refused, TimedOut, UnknownRef

CASES = (
    (NoRoute(target="site-9", at="server"), 3, "zdl: no route to site-9: server could not go on; who is there: zdl ls"),
    (UnknownRef(ref="ref:server/x", origin="server"), 3,
     "zdl: server knows no ref:server/x; only what a running zdl put, or another program, has published there can be had"),
    (TimedOut(what="the welcome", address="tcp://127.0.0.1:1", waited_s=1.0, why="nobody answers"), 4,
     "zdl: the welcome from tcp://127.0.0.1:1 did not come within 1 s (nobody answers); is a cell listening there? "
     "zdl start server server --listen tcp://127.0.0.1:1"),
    (IntegrityError(ref="ref:ab", origin="server", offset=8, attempts=3), 5,
     "zdl: ref:ab of server: the chunk at byte 8 came 3 times with a wrong digest"),
    (Refused(by="server", reason="name-taken", text="another site-1 is here"), 6,
     "zdl: server refused (name-taken): another site-1 is here; give this cell another name, or stop the other one"),
    (PeerLost(target="a", lost="a", at="server"), 1, "zdl: a is lost, says server"),
    (OptionError(name="listen", value="tcp://*:1", allowed="keys; pass insecure=True to"), 2,
     "zdl: option listen=tcp://*:1 is not allowed: keys; pass insecure=True to; on the command line: --insecure"),
    (Partial("1 of 2 receivers have it after 1 s"), 7, "zdl: 1 of 2 receivers have it after 1 s"),
    (click.UsageError("Missing option '--out'."), 2, "zdl: missing option '--out'"),
    (FileNotFoundError(2, "No such file or directory", "/x"), 1, "zdl: /x: no such file or directory"),
    (ValueError("four"), 1, "zdl: ValueError: four; zdl -v … shows where"),
    (KeyError(), 1, "zdl: KeyError; zdl -v … shows where"),
    (KeyboardInterrupt(), 130, "zdl: KeyboardInterrupt; zdl -v … shows where"),
)


@pytest.mark.parametrize(("error", "code", "text"), CASES, ids=lambda value: type(value).__name__)
def test_an_error_is_one_line_and_a_code(error: BaseException, code: int, text: str) -> None:
    assert (exit_code(error), line(error)) == (code, text)


def test_what_a_peer_says_cannot_rewrite_the_terminal_or_fill_it() -> None:
    assert one_line("a\x1b[31mred\r\nnext\tcolumn") == "a [31mred next column"
    assert one_line("aligned  by hand\n") == "aligned  by hand"
    assert len(one_line("x" * 10_000)) == LINE_CHARS_MAX


def test_what_does_not_print_is_marked() -> None:
    assert printed("a  b\x1b\n") == "a  b\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
