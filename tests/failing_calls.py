"""Failing calls: system calls that fail from now on in this process, as the kernel itself would have them fail.

A filter of the kernel (seccomp) answers them with an error instead of doing them: a disk that is full or broken, without
a disk. It cannot be taken off again, so it is for child processes.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct

# Numbers of system calls: on x86-64, and on arm64.
FSYNC = (74, 82)
PWRITE = (18, 68)
_IS_ARM = platform.machine() == "aarch64"
_LOAD, _EQUALS, _AT_LEAST, _ANSWER = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
# Where the kernel shows a filter the lower half of the fourth argument: the offset of pwrite.
_FOURTH_ARGUMENT = 16 + 3 * 8


def fail(call: tuple[int, int], error: int = errno.EIO, *, from_offset: int | None = None) -> None:
    """Have a system call fail.

    Args:
        call: `FSYNC` or `PWRITE`.
        error: with this.
        from_offset: only where it writes at this place or behind it; for `PWRITE`.
    """
    number = call[_IS_ARM]
    if from_offset is None:
        steps = [(_LOAD, 0, 0, 0), (_EQUALS, 0, 1, number), (_ANSWER, 0, 0, _ERROR | error), (_ANSWER, 0, 0, _ALLOW)]
    else:
        steps = [(_LOAD, 0, 0, 0), (_EQUALS, 0, 3, number), (_LOAD, 0, 0, _FOURTH_ARGUMENT), (_AT_LEAST, 0, 1, from_offset),
                 (_ANSWER, 0, 0, _ERROR | error), (_ANSWER, 0, 0, _ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

    class Program(ctypes.Structure):
        """As the kernel wants it."""

        _fields_ = (("count", ctypes.c_ushort), ("code", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    # The thread group as a whole: flag 1 is SECCOMP_FILTER_FLAG_TSYNC, which prctl cannot say, so `fail` comes before threads.
    assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
