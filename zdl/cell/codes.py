"""Codes: always a reply, with a return code: ``cell.replies``, for those who are used to that.

Nothing that the other side, or the way to it, does is raised here: what comes back is a `CodedReply` whose ``code`` is one
of the fourteen `ReturnCode` names. Below stands the one table between wire codes, error classes and return codes. A
`Refused` has the return code of its ``reason``; every other class has one of its own.

What is raised all the same is what was wrong with the call itself: a name, an option, a body that cannot travel, a cell of
one's own that is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from zdl.cell.filtering import Asks, Spreads
from zdl.cell.futures import DEFAULT_S, NO_HEADERS, Sending
from zdl.cell.lending import Lending
from zdl.cell.messages import Answer, Reply
from zdl.cell.service import Resolving
from zdl.cell.signal import Signal
from zdl.cell.spreading import bodies_of
from zdl.cell.workflow import Workflow
from zdl.errors import (
    BadSelection,
    Busy,
    Cancelled,
    CannotPack,
    CannotUnpack,
    Closed,
    ConsumerFailed,
    DecodeError,
    DeliveryError,
    DiskFailed,
    DiskFull,
    DownloadError,
    ForkedCell,
    FqcnError,
    IntegrityError,
    LeaseEnded,
    LocalProtocolError,
    NoRoute,
    ObjectError,
    OptionError,
    OriginFailed,
    OriginLost,
    PeerLost,
    ProtocolError,
    Refused,
    RemoteError,
    RemoteProtocolError,
    SourceChanged,
    Stalled,
    StreamError,
    TimedOut,
    TooLarge,
    UnknownRef,
    ZdlError,
)


class ReturnCode(StrEnum):
    """How a request went, in one word of the ancestor's."""

    OK = "ok"
    TIMEOUT = "timeout"
    INVALID_TARGET = "invalid_target"
    TARGET_UNREACHABLE = "target_unreachable"
    COMM_ERROR = "comm_error"
    MSG_TOO_BIG = "msg_too_big"
    FILTER_ERROR = "filter_error"
    INVALID_REQUEST = "invalid_request"
    PROCESS_EXCEPTION = "process_exception"
    AUTHENTICATION_ERROR = "authentication_error"
    SERVICE_UNAVAILABLE = "service_unavailable"
    INVALID_SESSION = "invalid_session"
    ABORT_RUN = "abort_run"
    UNAUTHENTICATED = "unauthenticated"


# The stable table: every class that has a code on the wire, and its return code. `Refused` is told apart by `REASONS`.
CODES: Mapping[type[ZdlError], ReturnCode] = MappingProxyType({
    FqcnError: ReturnCode.INVALID_TARGET,
    OptionError: ReturnCode.INVALID_REQUEST,
    ProtocolError: ReturnCode.COMM_ERROR,
    LocalProtocolError: ReturnCode.COMM_ERROR,
    RemoteProtocolError: ReturnCode.COMM_ERROR,
    DecodeError: ReturnCode.COMM_ERROR,
    ObjectError: ReturnCode.INVALID_REQUEST,
    CannotPack: ReturnCode.INVALID_REQUEST,
    BadSelection: ReturnCode.INVALID_REQUEST,
    CannotUnpack: ReturnCode.INVALID_REQUEST,
    DeliveryError: ReturnCode.COMM_ERROR,
    NoRoute: ReturnCode.TARGET_UNREACHABLE,
    PeerLost: ReturnCode.COMM_ERROR,
    Busy: ReturnCode.SERVICE_UNAVAILABLE,
    TooLarge: ReturnCode.MSG_TOO_BIG,
    Refused: ReturnCode.INVALID_REQUEST,
    # The ancestor does not tell an abort from a timeout by its code; `CodedReply.error` does.
    TimedOut: ReturnCode.TIMEOUT,
    Cancelled: ReturnCode.TIMEOUT,
    RemoteError: ReturnCode.PROCESS_EXCEPTION,
    DownloadError: ReturnCode.COMM_ERROR,
    UnknownRef: ReturnCode.INVALID_REQUEST,
    LeaseEnded: ReturnCode.INVALID_REQUEST,
    OriginLost: ReturnCode.COMM_ERROR,
    OriginFailed: ReturnCode.PROCESS_EXCEPTION,
    SourceChanged: ReturnCode.PROCESS_EXCEPTION,
    IntegrityError: ReturnCode.COMM_ERROR,
    Stalled: ReturnCode.TIMEOUT,
    DiskFull: ReturnCode.SERVICE_UNAVAILABLE,
    DiskFailed: ReturnCode.SERVICE_UNAVAILABLE,
    ConsumerFailed: ReturnCode.PROCESS_EXCEPTION,
    StreamError: ReturnCode.COMM_ERROR,
    Closed: ReturnCode.SERVICE_UNAVAILABLE,
    ForkedCell: ReturnCode.SERVICE_UNAVAILABLE,
})
# The reasons of `Refused`, those that this version gives and those that a handler or filter of yours may give.
REASONS: Mapping[str, ReturnCode] = MappingProxyType({
    "version": ReturnCode.COMM_ERROR,
    "name-taken": ReturnCode.COMM_ERROR,
    "not-ready": ReturnCode.SERVICE_UNAVAILABLE,
    "no-handler": ReturnCode.PROCESS_EXCEPTION,
    "filter": ReturnCode.FILTER_ERROR,
    "filter-failed": ReturnCode.FILTER_ERROR,
    "not-allowed": ReturnCode.AUTHENTICATION_ERROR,
    "authentication": ReturnCode.AUTHENTICATION_ERROR,
    "unauthenticated": ReturnCode.UNAUTHENTICATED,
    "invalid-request": ReturnCode.INVALID_REQUEST,
    "invalid-session": ReturnCode.INVALID_SESSION,
    "service-unavailable": ReturnCode.SERVICE_UNAVAILABLE,
    "abort-run": ReturnCode.ABORT_RUN,
})


def code_of(error: ZdlError | None) -> ReturnCode:
    """The return code of an error; of none, that all is well. A class that is not in the table has its parent's."""
    if error is None:
        return ReturnCode.OK
    if isinstance(error, Refused):
        return REASONS.get(error.reason, CODES[Refused])
    found = (CODES.get(cls) for cls in type(error).__mro__ if issubclass(cls, ZdlError))
    return next((code for code in found if code is not None), ReturnCode.PROCESS_EXCEPTION)


@dataclass(frozen=True, slots=True)
class CodedReply:
    """What came of a request, whatever came.

    Attributes:
        code: in one word.
        body: the reply's body; None unless ``code`` is ok.
        error: why not, with its facts; None when ``code`` is ok.
        origin: FQCN of the cell that replied; empty when none did.
        headers: the reply's.
    """

    code: ReturnCode
    body: object = None
    error: ZdlError | None = None
    origin: str = ""
    headers: Mapping[str, object] = field(default_factory=lambda: NO_HEADERS)

    @property
    def is_ok(self) -> bool:
        """Whether there is a good reply."""
        return self.code is ReturnCode.OK


def coded(ask: Callable[[], Reply]) -> CodedReply:
    """What comes of asking: a reply, or the error that would have been raised."""
    try:
        reply = ask()
        return CodedReply(ReturnCode.OK, reply.body, None, reply.origin, reply.headers)
    except ZdlError as error:
        return CodedReply(code_of(error), None, error)


def checked(found: CodedReply) -> CodedReply:
    """The same; raises what was wrong with the call itself."""
    if isinstance(found.error, (OptionError, CannotPack)):
        raise found.error
    return found


class Replies:
    """``cell.replies``: requests that always bring a reply with a return code.

    Threads: all methods from any thread.

    Args:
        caller: gives the calling side of a cell that is open.
        spreader: the same for broadcasts.
    """

    def __init__(self, caller: Callable[[], Asks], spreader: Callable[[], Spreads]) -> None:
        self._caller = caller
        self._spreader = spreader

    def request(self, target: str, channel: str, topic: str, body: object = None, *,
                timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                abort: Signal | None = None, resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                lending: Lending | None = None, workflow: Workflow | None = None) -> CodedReply:
        """Send a request, wait, and return what came of it; see `BareCell.request` for the arguments.

        Raises:
            OptionError, CannotPack: the call itself is wrong. A target that is no name is ``invalid_target``.
            Closed: this cell is closed.
        """
        caller = self._caller()
        sending = Sending(timeout_s, headers, abort, resolve, receivers, lending=lending, workflow=workflow)
        return checked(coded(lambda: caller.request(target, channel, topic, body, sending)))

    def broadcast(self, targets: Sequence[str] | Mapping[str, object], channel: str, topic: str, body: object = None, *,
                  timeout_s: float | None = DEFAULT_S, headers: Mapping[str, object] = NO_HEADERS,
                  abort: Signal | None = None, resolve: Resolving = True, receivers: Sequence[str] | int = 1,
                  lending: Lending | None = None, workflow: Workflow | None = None) -> dict[str, CodedReply]:
        """One request to each of many targets, and what came of each; see `BareCell.broadcast`."""
        bodies = bodies_of(targets, body)
        sending = Sending(timeout_s, headers, abort, resolve, receivers, lending=lending, workflow=workflow)
        answers = self._spreader().broadcast(bodies, channel, topic, sending)
        return {target: coded_answer(answer) for target, answer in answers.items()}


def coded_answer(answer: Answer) -> CodedReply:
    """What came of one target of a broadcast."""
    return coded(lambda: _reply_of(answer))


def _reply_of(answer: Answer) -> Reply:
    if answer.error is not None:
        raise answer.error
    assert answer.reply is not None
    return answer.reply
