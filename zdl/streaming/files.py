"""Files as streams of objects: pieces in step with their receivers' answers, and the digest of all at the end.

To hand a file to many that want it when they want it, lend it (``cell.downloads.lend_file``). Streaming one is for a receiver
that works on it while it comes, and for many at one pace. A file appears under its name when all of it is there, verified and
kept by the disk. Its name comes from the peer, so nothing of it but a plain last component is taken.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blake3 import blake3

from zdl.errors import OptionError, Refused, StreamError
from zdl.streaming.api import ConsumerFactory, Context, ObjectConsumer, ObjectProducer

# Keys of the context: what the sender says of the file; where it is here, when it is whole.
NAME, SIZE, PATH = "file_name", "file_size", "file_path"
CHUNK_BYTES = 1024 * 1024
NAME_BYTES_MAX = 255
PART = ".zdl-part"


def safe_name(name: object, *, at: str = "") -> str:
    """A name from a peer that can be nothing but a file in the folder that it is put in.

    Raises:
        Refused: it is none.
    """
    is_plain = isinstance(name, str) and 0 < len(name.encode("utf-8", "replace")) <= NAME_BYTES_MAX - 32
    if not is_plain or not str(name).isprintable() or any(sign in str(name) for sign in "/\\:\0") or str(name).startswith("."):
        raise Refused(by=at, reason="not-allowed", text=f"{name!r:.100} is not the plain name of a file")
    return str(name)


class FileProducer(ObjectProducer):
    """The pieces of a file, then its digest.

    Args:
        path: of the file.
        context: of the stream; name and size are put in.
        chunk_bytes: of one piece.
        chunk_timeout_s: within which each piece shall be consumed; None for the cell's default.

    Raises:
        OptionError: there is no such file, or it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], context: Context, *, chunk_bytes: int = CHUNK_BYTES,
                 chunk_timeout_s: float | None = None) -> None:
        self._path = Path(path)
        if not self._path.is_file():
            raise OptionError(name="path", value=str(path), allowed="a regular file")
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise OptionError(name="path", value=str(path), allowed=f"a file that can be read: {error.strerror}") from error
        context |= {NAME: self._path.name, SIZE: os.fstat(self._file.fileno()).st_size}
        self._size = int(context[SIZE])
        self._chunk_bytes = chunk_bytes
        self._timeout_s = chunk_timeout_s
        self._done = 0
        self._hasher = blake3()
        self._is_told = False

    def __repr__(self) -> str:
        return f"<FileProducer of {self._path}: {self._done} of {self._size} bytes>"

    def produce(self, context: Context) -> tuple[object, float | None]:
        """The next piece; after the last one the digest; then the end."""
        if self._done < self._size:
            piece = self._file.read(min(self._chunk_bytes, self._size - self._done))
            if not piece:
                raise StreamError(what=f"{self._path} has become shorter while it was streamed: {self._done} of {self._size} bytes")
            self._hasher.update(piece)
            self._done += len(piece)
            return piece, self._timeout_s
        if self._is_told:
            return None, None
        self._is_told = True
        return {"blake3": self._hasher.digest()}, self._timeout_s

    def finalize(self, context: Context) -> None:
        """Let go of the file."""
        self._file.close()


class _FileConsumer(ObjectConsumer):
    """Writes one file, beside its place until it is whole."""

    def __init__(self, folder: Path, context: Context, *, is_overwriting: bool) -> None:
        self._place = folder / safe_name(context.get(NAME))
        size = context.get(SIZE)
        if type(size) is not int or size < 0:
            raise StreamError(what=f"{size!r:.40} is not the size of a file")
        self._size = size
        self._is_overwriting = is_overwriting
        if self._place.exists() and not is_overwriting:
            raise Refused(by="", reason="not-allowed", text=f"there is a file named {self._place.name} already")
        self._part = folder / f".{self._place.name}.{secrets.token_hex(4)}{PART}"
        self._file = self._part.open("xb")
        self._hasher = blake3()
        self._done = 0

    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        """A piece, or the digest of all."""
        if isinstance(obj, (bytes, memoryview, bytearray)):
            if self._done + len(obj) > self._size:
                raise StreamError(what=f"{self._place.name}: more bytes came than the {self._size} that were declared")
            self._file.write(obj)
            self._hasher.update(obj)
            self._done += len(obj)
            return True, None
        digest = obj.get("blake3") if isinstance(obj, dict) else None
        if self._done != self._size or digest != self._hasher.digest():
            raise StreamError(what=f"{self._place.name}: what came is not what was sent, {self._done} of {self._size} bytes")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._is_overwriting:
            os.replace(self._part, self._place)
        else:
            os.link(self._part, self._place)  # fails where somebody else has made one of that name meanwhile
            self._part.unlink()
        context[PATH] = str(self._place)
        return True, None

    def finalize(self, context: Context) -> None:
        """What is not whole is not left."""
        self._file.close()
        self._part.unlink(missing_ok=True)


class FileFactory(ConsumerFactory):
    """Takes files in: to be registered with ``register_stream_processing``; ``stream_done_cb`` finds the file under `PATH`.

    Args:
        folder: where they go.
        is_overwriting: whether a file of the same name is replaced; else the stream is refused.

    Raises:
        OptionError: there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike[str], *, is_overwriting: bool = False) -> None:
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise OptionError(name="folder", value=str(folder), allowed="a folder that is there")
        self._is_overwriting = is_overwriting

    def get_consumer(self, context: Context) -> ObjectConsumer:
        """One for each file."""
        return _FileConsumer(self._folder, context, is_overwriting=self._is_overwriting)


def stream_file(stream_objects: Callable[..., Any], channel: str, topic: str, targets: list[str],
                path: str | os.PathLike[str], *, context: Context | None = None, chunk_bytes: int = CHUNK_BYTES,
                chunk_timeout_s: float | None = None) -> tuple[Any, Any]:
    """Stream a file to these cells, at the pace of the slowest.

    Args:
        stream_objects: ``cell.streams.stream_objects``.
        channel: first half of the name that the receivers have registered.
        topic: second half.
        targets: FQCNs.
        path: of the file.
        context: travels with it.
        chunk_bytes: of one piece.
        chunk_timeout_s: within which each piece shall be consumed.

    Returns:
        As ``stream_objects``.
    """
    own = {} if context is None else context
    producer = FileProducer(path, own, chunk_bytes=chunk_bytes, chunk_timeout_s=chunk_timeout_s)
    try:
        found: tuple[Any, Any] = stream_objects(channel, topic, own, targets, producer, ahead_max=8)
        return found
    finally:
        producer.finalize(own)
