"""Files: lent as they are, read chunk by chunk, never as a mixture of two versions."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from zdl.errors import OptionError, SourceChanged


class FileSource:
    """One file as a byte stream.

    Its size and the time of its last change are looked at with every chunk: a file that shrinks, grows or
    is rewritten while it is lent ends the pulls with `SourceChanged`.

    Threads: `read` from any thread; it blocks on the disk.

    Args:
        path: the file; it is opened now, and read through this opening even if its name goes elsewhere.
        fqcn: the cell that lends it, for errors.

    Raises:
        OptionError: it is missing, unreadable or no regular file.
    """

    def __init__(self, path: Path, fqcn: str) -> None:
        self._path = path
        self._fqcn = fqcn
        try:
            # Without waiting: the opening of a pipe would last until somebody writes to it.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise OptionError(name="path", value=str(path), allowed=f"a file that can be read: {error.strerror}") from error
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            os.close(descriptor)
            raise OptionError(name="path", value=str(path), allowed="a regular file")
        self._descriptor = descriptor
        self.bytes_total = facts.st_size
        self._changed_ns = facts.st_mtime_ns

    def __del__(self) -> None:
        descriptor = self.__dict__.pop("_descriptor", None)
        if descriptor is not None:
            os.close(descriptor)

    @property
    def may_block(self) -> bool:
        """Disks do."""
        return True

    def read(self, offset: int, length: int) -> list[bytes | memoryview]:
        """The byte range.

        Raises:
            SourceChanged: the file is not what it was when it was lent.
        """
        data = os.pread(self._descriptor, length, offset)
        facts = os.fstat(self._descriptor)
        if facts.st_size != self.bytes_total or facts.st_mtime_ns != self._changed_ns or len(data) != length:
            raise SourceChanged(ref=self._path.name, origin=self._fqcn, why="its size or time of change is another")
        return [data]
