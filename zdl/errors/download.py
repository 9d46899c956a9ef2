"""The errors of downloads and of streams: how a pull or a stream can end without its object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from zdl.errors.root import ZdlError, bytes_text


@dataclass(eq=False)
class DownloadError(ZdlError):
    """A pull ended without its object."""

    code: ClassVar[str] = "download"
    ref: str
    origin: str

    def __str__(self) -> str:
        return f"{self.ref} of {self.origin} could not be pulled"


@dataclass(eq=False)
class UnknownRef(DownloadError):
    """The origin does not lend such an object (or not to us)."""

    code: ClassVar[str] = "unknown-ref"
    exit_code: ClassVar[int] = 3

    def __str__(self) -> str:
        return f"{self.origin} knows no {self.ref}"


@dataclass(eq=False)
class LeaseEnded(DownloadError):
    """The object was lent, and is not any more; `how`: ``finished``, ``expired``, ``deleted`` or ``undeliverable``."""

    code: ClassVar[str] = "lease-ended"
    exit_code: ClassVar[int] = 3
    how: str = ""

    def __str__(self) -> str:
        return f"{self.ref} of {self.origin} is no longer lent: {self.how}"


@dataclass(eq=False)
class OriginLost(DownloadError):
    """The origin, or every way to it, died during the pull."""

    code: ClassVar[str] = "origin-lost"
    bytes_done: int = 0
    bytes_total: int = 0
    why: str = ""

    def __str__(self) -> str:
        return (f"{self.origin} was lost while {self.ref} was pulled from it, after {bytes_text(self.bytes_done)} of "
                f"{bytes_text(self.bytes_total)}" + (f": {self.why}" if self.why else ""))


@dataclass(eq=False)
class OriginFailed(DownloadError):
    """The origin could not produce the bytes."""

    code: ClassVar[str] = "origin-failed"
    why: str = ""

    def __str__(self) -> str:
        return f"{self.origin} failed to produce {self.ref}: {self.why}"


@dataclass(eq=False)
class SourceChanged(DownloadError):
    """What is lent changed while it was lent; the receiver never gets a mixture."""

    code: ClassVar[str] = "source-changed"
    why: str = ""

    def __str__(self) -> str:
        return f"{self.ref} of {self.origin} changed while it was lent: {self.why}"


@dataclass(eq=False)
class IntegrityError(DownloadError):
    """A piece came wrong again and again."""

    code: ClassVar[str] = "integrity"
    exit_code: ClassVar[int] = 5
    offset: int = 0
    attempts: int = 0

    def __str__(self) -> str:
        return f"{self.ref} of {self.origin}: the chunk at byte {self.offset} came {self.attempts} times with a wrong digest"


@dataclass(eq=False)
class Stalled(DownloadError):
    """No verified byte for longer than the stall timeout."""

    code: ClassVar[str] = "stalled"
    exit_code: ClassVar[int] = 4
    bytes_done: int = 0
    bytes_total: int = 0
    waited_s: float = 0.0

    def __str__(self) -> str:
        return (f"{self.ref} of {self.origin} stalled: nothing for {self.waited_s:.3g} s after "
                f"{bytes_text(self.bytes_done)} of {bytes_text(self.bytes_total)}")


@dataclass(eq=False)
class DiskFull(DownloadError):
    """The place where the bytes go has no room."""

    code: ClassVar[str] = "disk-full"
    path: str = ""
    need: int = 0
    free: int = 0

    def __str__(self) -> str:
        return f"{self.path}: needs {bytes_text(self.need)}, {bytes_text(self.free)} are free"


@dataclass(eq=False)
class DiskFailed(DownloadError):
    """The place where the bytes go cannot keep them: the disk says so."""

    code: ClassVar[str] = "disk-failed"
    path: str = ""
    why: str = ""

    def __str__(self) -> str:
        return f"{self.path} cannot keep {self.ref} of {self.origin}: {self.why}"


@dataclass(eq=False)
class ConsumerFailed(DownloadError):
    """The receiver's own code could not take the object in; what it raised is raised by its pull."""

    code: ClassVar[str] = "consumer-failed"
    why: str = ""

    def __str__(self) -> str:
        return f"{self.ref} of {self.origin} came, and could not be taken in: {self.why}"


@dataclass(eq=False)
class StreamError(ZdlError):
    """A stream ended with an error."""

    code: ClassVar[str] = "stream"
    what: str

    def __str__(self) -> str:
        return self.what
