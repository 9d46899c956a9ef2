"""Disk errors: each thing that a disk or a path can do has one name."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zdl.download.diskerrors import check_replaceable, disk_error
from zdl.errors import DiskFailed, DiskFull, OptionError, ZdlError
from zdl.refs import Ref, Source

REF = Ref(Source("server", bytes(16), bytes(16), 10), 0, 0, 10, "file", name="x")


@pytest.mark.parametrize(("number", "kind", "text"), [
    (errno.ENOSPC, DiskFull, "needs 10 B"), (errno.EDQUOT, DiskFull, "needs 10 B"), (errno.EFBIG, DiskFull, "needs 10 B"),
    (errno.EIO, DiskFailed, "Input/output error"), (errno.ENODEV, DiskFailed, "No such device"),
    (errno.EACCES, OptionError, "Permission denied"), (errno.EROFS, OptionError, "Read-only file system"),
    (errno.ENOENT, OptionError, "No such file"), (errno.ENAMETOOLONG, OptionError, "File name too long"),
    (errno.ELOOP, OptionError, "symbolic links"), (errno.EEXIST, OptionError, "a name that is free"),
    (errno.EAGAIN, OptionError, "no other pull is writing"),
])
def test_each_thing_that_a_disk_says_has_a_name_and_tells_the_path(tmp_path: Path, number: int, kind: type[ZdlError],
                                                                   text: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), REF, tmp_path / "x")
    assert type(error) is kind and text in str(error) and str(tmp_path / "x") in str(error)


def test_what_is_there_is_replaced_only_if_that_was_said_and_never_a_folder_or_a_device(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "x", is_overwriting=False)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "link", "folder", "fifo"):
        with pytest.raises(OptionError, match="a name that is free"):
            check_replaceable(tmp_path / name, is_overwriting=False)
    for name in ("file", "link"):
        check_replaceable(tmp_path / name, is_overwriting=True)
    for name in ("folder", "fifo"):
        with pytest.raises(OptionError, match="a folder or a device"):
            check_replaceable(tmp_path / name, is_overwriting=True)
    with pytest.raises(OptionError, match="a folder or a device"):
        check_replaceable(Path("/dev/null"), is_overwriting=True)
    with pytest.raises(OptionError, match="null"):
        check_replaceable(Path("a\0b"), is_overwriting=True)
    with pytest.raises(OSError, match="File name too long"):
        check_replaceable(tmp_path / ("n" * 256), is_overwriting=True)
