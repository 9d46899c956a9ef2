"""FolderPlace: a folder that is put together under a hidden name, and gets its own when all of it is there."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from zdl.download.diskerrors import check_replaceable
from zdl.download.folderindex import FolderIndex
from zdl.download.names import PART, hidden
from zdl.download.places import PRIVATE_MODE, granted, named, sync_folder, write_all
from zdl.errors import OptionError
from zdl.objects.manifest import PADDING

_PRIVATE_FOLDER = 0o700
# More files than these are made to last by one call for their file system: 2,000 by themselves took 0.57 s, together 0.02.
SYNC_EACH_MAX = 32


def anchor_of(path: Path) -> Path:
    """The name beside which a folder is put together: within itself, where it is there already."""
    return path / path.name if path.is_dir() else path


class FolderPlace:
    """A folder under a hidden name, ``.<name>.zdl-part``: beside its final place, or in it where that is there already.

    A folder that is new appears as a whole. Into one that is there files are moved one by one; each of them is whole.

    Args:
        path: its final place.
        index: what will be in it.
        mode: its permissions, as its lender says.
        is_overwriting: whether files that are there may be replaced.

    Raises:
        OptionError: something is in the way.
        OSError: it cannot be made.
    """

    def __init__(self, path: Path, index: FolderIndex, mode: int, *, is_overwriting: bool) -> None:
        self._path = path
        self._index = index
        self._mode = mode
        self._is_overwriting = is_overwriting
        self._is_new = not os.path.lexists(path)
        self._lock = threading.Lock()  # one writer at a time: see `zdl.download.places`
        self._check()
        self._part = hidden(anchor_of(path), PART)
        with suppress(FileExistsError):
            os.mkdir(self._part, _PRIVATE_FOLDER)
        self._descriptor = os.open(self._part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._descriptor), os.lstat(self._part)):
                raise BlockingIOError(errno.EAGAIN, "its name is being taken away")
        except OSError:
            os.close(self._descriptor)
            raise

    def write(self, offset: int, view: memoryview) -> None:
        """Put these bytes into the files that they are of."""
        at = 0
        for item, start, stop in self._index.manifest.pieces(offset, view.nbytes):
            if self._is_file(item):
                descriptor = self._open(item, os.O_WRONLY | os.O_CREAT)
                try:
                    with self._lock:
                        write_all(descriptor, start, view[at:at + stop - start])
                finally:
                    os.close(descriptor)
            at += stop if item == PADDING else stop - start

    def read(self, offset: int, length: int) -> bytes:
        """What is there now."""
        parts = []
        for item, start, stop in self._index.manifest.pieces(offset, length):
            if not self._is_file(item):
                parts.append(bytes(stop - start))
                continue
            try:
                descriptor = self._open(item, os.O_RDONLY)
            except OSError:  # it has not come yet
                return b""
            try:
                parts.append(os.pread(descriptor, stop - start, start))
            finally:
                os.close(descriptor)
        return b"".join(parts)

    def clear(self) -> None:
        """Begin with the folders, and nothing in them."""
        for name in os.listdir(self._part):
            path = self._part / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for within, _ in self._index.folders:
            os.mkdir(self._part / os.fsdecode(within), _PRIVATE_FOLDER)

    def settle(self) -> None:
        """Have the disk keep the bytes, then give the names."""
        self._check()
        for item, entry in enumerate(self._index.files, 1):
            descriptor = self._open(item, os.O_WRONLY | os.O_CREAT)
            try:
                os.ftruncate(descriptor, entry.size)
                os.fchmod(descriptor, granted(entry.mode))
                if len(self._index.files) <= SYNC_EACH_MAX:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        if self._is_new:
            for within, mode in reversed(self._index.folders):
                self._grant(self._part / os.fsdecode(within), mode)
            self._sync()
            self._grant(self._part, self._mode)
            os.rename(self._part, self._path)  # onto what is not there, or is an empty folder: nothing else is replaced
            sync_folder(self._path.parent)
            return
        self._sync()
        self._move()
        shutil.rmtree(self._part)

    def remove(self) -> None:
        """Remove what came."""
        shutil.rmtree(self._part, ignore_errors=True)

    def close(self) -> None:
        """From now on others may write under this name."""
        os.close(self._descriptor)

    def _is_file(self, item: int) -> bool:
        return 0 < item <= len(self._index.files)

    def _open(self, item: int, flags: int) -> int:
        path = self._index.files[item - 1].path
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE_MODE, dir_fd=self._descriptor)

    def _check(self) -> None:
        """Look for what is in the way, component by component: links are not followed."""
        if self._is_new:
            return
        if not self._path.is_dir():
            raise OptionError(name="path", value=str(self._path), allowed="a name that is free, or a folder")
        for within, _ in self._index.folders:
            path = self._path / os.fsdecode(within)
            if os.path.lexists(path) and (path.is_symlink() or not path.is_dir()):
                raise OptionError(name="path", value=str(path), allowed="a folder, or nothing; what is there is in the way")
        for entry in self._index.files:
            check_replaceable(self._path / os.fsdecode(entry.path), is_overwriting=self._is_overwriting)

    def _move(self) -> None:
        """Into a folder that is there: file by file."""
        touched = {self._path}
        for within, mode in self._index.folders:
            path = self._path / os.fsdecode(within)
            if not path.is_dir():
                os.mkdir(path, granted(mode) | _PRIVATE_FOLDER)
            touched.add(path)
        for entry in self._index.files:
            name = os.fsdecode(entry.path)
            named(self._part / name, self._path / name, is_overwriting=self._is_overwriting)
        for path in touched:
            sync_folder(path)

    def _grant(self, folder: Path, mode: int) -> None:
        os.chmod(folder, granted(mode) | _PRIVATE_FOLDER)

    def _sync(self) -> None:
        """Have the disk keep what is in the folders."""
        if len(self._index.files) > SYNC_EACH_MAX:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(self._descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        for within, _ in self._index.folders:
            sync_folder(self._part / os.fsdecode(within))
        sync_folder(self._part)
