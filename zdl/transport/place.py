"""Place: where this process runs: for other cells, to know what they can dial; and for people.

Two processes share a loopback interface when they run on the same machine, in the same network namespace: a container
has one of its own. That they see the same files is likely then, and only costs a failed dialling where it is not so.
"""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from contextlib import suppress
from pathlib import Path

_HOST_BYTES = 8


def host(*, shares_memory: bool) -> str:
    """Who can dial this process how: equal texts on one machine up to a slash; after it, this process.

    Args:
        shares_memory: whether its ``inproc`` addresses can be dialled from elsewhere in this process.
    """
    facts = [platform.node()]
    with suppress(OSError):
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    if len(facts) == 1:
        facts.append(str(uuid.getnode()))
    with suppress(OSError):
        facts.append(os.readlink("/proc/self/ns/net"))
    machine = hashlib.blake2b("\n".join(facts).encode(), digest_size=_HOST_BYTES).hexdigest()
    return f"{machine}/{os.getpid()}" if shares_memory else machine


def place() -> str:
    """Where this process runs, for people: ``pid 4711 on gpu-7``."""
    return f"pid {os.getpid()} on {platform.node() or 'an unnamed machine'}"
