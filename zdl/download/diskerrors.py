"""Disk errors: what the system says about a disk or a path, as errors of ours: one place for all that is stored."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from zdl.errors import DiskFailed, DiskFull, OptionError, ZdlError
from zdl.refs import Ref

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
# The caller's path cannot be used; with these the disk itself is well.
_UNUSABLE = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG,
                       errno.ELOOP, errno.ENOTEMPTY, errno.ENXIO, errno.EXDEV))


def disk_error(error: OSError, ref: Ref, path: Path) -> ZdlError:
    """What happened to the bytes of a ref on their way to a path."""
    if error.errno in _FULL:
        return disk_full(ref, path, need=ref.length)
    if isinstance(error, BlockingIOError):
        return OptionError(name="path", value=str(path), allowed="a name that no other pull is writing")
    if isinstance(error, FileExistsError):
        return taken(path)
    if error.errno in _UNUSABLE:
        return OptionError(name="path", value=str(path), allowed=f"it cannot be written: {error.strerror}")
    return DiskFailed(ref=ref.source.label, origin=ref.origin, path=str(path), why=error.strerror or str(error))


def disk_error_at(error: OSError, path: Path, *, need: int) -> ZdlError:
    """What happened to bytes of this process on their way to a path."""
    if error.errno in _FULL:
        return DiskFull(ref="", origin="", path=str(path), need=need, free=_free_at(path))
    if error.errno in _UNUSABLE:
        return OptionError(name="path", value=str(path), allowed=f"it cannot be written: {error.strerror}")
    return DiskFailed(ref="a dump", origin="this process", path=str(path), why=error.strerror or str(error))


def disk_full(ref: Ref, path: Path, *, need: int) -> DiskFull:
    """There is no room."""
    return DiskFull(ref=ref.source.label, origin=ref.origin, path=str(path), need=need, free=_free_at(path))


def _free_at(path: Path) -> int:
    """Bytes that are free beside a path."""
    with suppress(OSError):  # then it is not known
        return shutil.disk_usage(path.parent).free
    return 0


def taken(path: Path) -> OptionError:
    """Something is there that may not be replaced."""
    return OptionError(name="path", value=str(path), allowed="a name that is free; or allow overwriting")


def check_replaceable(path: Path, *, is_overwriting: bool) -> None:
    """Look whether a file may get this name.

    Raises:
        OptionError: something has it, which must be left alone, or is no file. A link is replaced itself, not followed.
        OSError: it cannot be looked at.
    """
    try:
        facts = os.lstat(path)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise OptionError(name="path", value=repr(path), allowed=f"a path: {error}") from error
    if not is_overwriting:
        raise taken(path)
    if not stat.S_ISREG(facts.st_mode) and not stat.S_ISLNK(facts.st_mode):
        raise OptionError(name="path", value=str(path), allowed="the name of a file; what is there is a folder or a device")
