"""Failing: how an error becomes one line on stderr, and an exit code.

The line says what went wrong, where, and after a semicolon what to do about it, if there is something to type. The
codes: 0 ok, 1 error, 2 usage, 3 no such cell or ref, 4 timeout, 5 integrity, 6 not permitted, 7 partial (some
receivers failed), 8 benchmark below its bound, 130 interrupted.
"""

from __future__ import annotations

import re

import click

from zdl.errors import LeaseEnded, NoRoute, OptionError, Refused, TimedOut, UnknownRef, ZdlError

ERROR = 1
PARTIAL = 7
BELOW = 8
INTERRUPTED = 130
# A line is for a terminal; what a peer writes into an error must not fill it.
LINE_CHARS_MAX = 1000
_MARK = "\N{REPLACEMENT CHARACTER}"
_UNPRINTED = re.compile(f" *{_MARK}[ {_MARK}]*")


class Partial(click.ClickException):
    """Some of those who should have got something did not get it."""

    exit_code = PARTIAL


class Below(click.ClickException):
    """A benchmark has not reached its bound."""

    exit_code = BELOW


def exit_code(error: BaseException) -> int:
    """What a command exits with when this error ends it."""
    if isinstance(error, (ZdlError, click.ClickException)):
        return error.exit_code
    return INTERRUPTED if isinstance(error, (KeyboardInterrupt, click.Abort)) else ERROR


def line(error: BaseException) -> str:
    """The line for people, without its end."""
    said, cure = one_line(_sentence(error)), _cure(error)
    return f"zdl: {said}; {cure}" if cure else f"zdl: {said}"


def printed(text: str) -> str:
    """The text with a mark in place of every character that does not print."""
    return "".join(ch if ch.isprintable() else _MARK for ch in text)


def one_line(text: str, *, chars_max: int = LINE_CHARS_MAX) -> str:
    """The text as a terminal may show it: no control characters, no line ends, not endless."""
    shown = _UNPRINTED.sub(" ", printed(text[:4 * chars_max])).strip()
    return shown if len(shown) <= chars_max else shown[:chars_max - 1] + "…"


def _sentence(error: BaseException) -> str:
    match error:
        case ZdlError():
            return str(error)
        case click.ClickException():
            text = error.format_message().rstrip(".")
            return text[:1].lower() + text[1:] if text[1:2].islower() else text
        case OSError() if error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror.lower()}"
        case MemoryError():
            return "out of memory"
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _cure(error: BaseException) -> str:
    """What to type, or look at; empty where nothing would help."""
    match error:
        case NoRoute():
            return "who is there: zdl ls"
        case UnknownRef() | LeaseEnded():
            return "only what a running zdl put, or another program, has published there can be had"
        case TimedOut(what="the welcome"):
            return "is a cell listening there? zdl start server server --listen " + error.address
        case Refused(reason="name-taken"):
            return "give this cell another name, or stop the other one"
        case Refused(reason="version"):
            return "install the same version of zdl on both sides: zdl --version"
        case OptionError() if "insecure=True" in error.allowed:
            return "on the command line: --insecure"
        case click.MissingParameter(ctx=click.Context() as context, param=click.Parameter(name="parent")):
            return f"write for example --parent tcp://127.0.0.1:8800; see {context.command_path} --help"
        case click.UsageError() if error.ctx is not None:
            return f"see {error.ctx.command_path} --help"
        case ZdlError() | click.ClickException() | OSError():
            return ""
    return "zdl -v … shows where"
