"""Names: what a lender calls a file is taken as one harmless component of a path at most, never as a path."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

# What Linux file systems allow for one component (NAME_MAX).
COMPONENT_BYTES_MAX = 255
# Some room is left for what comes before and after the name while the file is fetched.
NAME_BYTES_MAX = 200
PART = ".zdl-part"
RECORD = ".zdl-resume"
# Names that are devices where a file may be carried to later, with any suffix.
_DEVICES = frozenset(("con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))))


def safe_name(name: str, index: int = 0) -> str:
    """One component of a path that is neither hidden, nor special, nor a device, nor unprintable, nor too long.

    Args:
        name: what the lender calls it; of a path, only the last component is looked at.
        index: for the name that is made up where nothing of it is left.
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    shown = "".join(ch if ch.isprintable() else "_" for ch in last).strip()
    shown = shown.encode("utf-8", "replace")[:NAME_BYTES_MAX].decode("utf-8", "ignore")
    if shown.startswith("."):
        shown = "_" + shown.lstrip(".")
    if shown.partition(".")[0].strip().lower() in _DEVICES:
        shown = "_" + shown
    return shown if shown.strip("_") else f"file-{index}"


def told_name(path: Path) -> str:
    """What receivers are told that a file here is called: its name, made harmless where they would not believe it."""
    name = path.name
    is_plain = name.isprintable() and "\\" not in name and len(name.encode("utf-8", "replace")) <= COMPONENT_BYTES_MAX
    return name if is_plain else safe_name(name)


def is_component(name: bytes) -> bool:
    """Whether these bytes can be one component of a path, and lead nowhere else."""
    return 0 < len(name) <= COMPONENT_BYTES_MAX and name not in (b".", b"..") and b"/" not in name and b"\0" not in name


def hidden(path: Path, suffix: str) -> Path:
    """The hidden name beside `path` for what belongs to it: always the same one, and never too long."""
    name = path.name
    if len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]
        name = name.encode("utf-8", "surrogateescape")[:NAME_BYTES_MAX - 20].decode("utf-8", "ignore") + "-" + digest
    return path.with_name(f".{name}{suffix}")
