"""Names of cells: fully qualified cell names, and what follows from a name alone.

A name is parts joined by dots, from the top of the tree down: ``site-1.job-7.worker-0``. A part is
made of letters, digits, ``_``, ``~`` and ``-``. One cell is the **root** of the fabric, named
``server`` unless told otherwise; every other first part is a child of it::

    server
    ├─ server.job-7                 parent("server.job-7") == "server"
    ├─ site-1                       parent("site-1")       == "server"
    │  └─ site-1.job-7              parent("site-1.job-7") == "site-1"
    │     └─ site-1.job-7.worker-0
    └─ site-2

Two different notions use names: the **tree** (who is whose parent, in which the root stands above
all) and the **subtree** of a name (the name itself and what begins with it and a dot), which is what
a link may speak for.
"""

from __future__ import annotations

import re

from zdl.errors import FqcnError

ROOT = "server"
# The ancestor's rule for parts, and a bound that keeps two names well inside a 64 KiB header.
FQCN_BYTES_MAX = 255
_PART = re.compile(r"[A-Za-z0-9_~-]+\Z")


def parse(text: object) -> str:
    """The name in its normal form (without surrounding blanks).

    Raises:
        FqcnError: it is not a string, is empty or too long, or has an empty, repeated or ill-formed part.
    """
    if not isinstance(text, str):
        raise FqcnError(text=repr(text)[:80], reason=f"it must be a string, not {type(text).__name__}")
    name = text.strip()
    shown = name if len(name) <= 80 else name[:80] + "…"
    if not name:
        raise FqcnError(text=text[:80], reason="it is empty")
    if len(name.encode("utf-8", "surrogatepass")) > FQCN_BYTES_MAX:
        raise FqcnError(text=shown, reason=f"it has more than {FQCN_BYTES_MAX} bytes")
    seen: set[str] = set()
    for part in name.split("."):
        if not part:
            raise FqcnError(text=shown, reason="it has an empty part")
        if not _PART.match(part):
            raise FqcnError(text=shown, reason=f"part {part!r} has characters other than letters, digits, '_', '~', '-'")
        if part in seen:
            raise FqcnError(text=shown, reason=f"part {part!r} is repeated")
        seen.add(part)
    return name


def parts(fqcn: str) -> tuple[str, ...]:
    """``site-1.job-7`` → ``("site-1", "job-7")``."""
    return tuple(fqcn.split("."))


def family(fqcn: str) -> str:
    """The first part: cells with the same first part are one family."""
    return fqcn.split(".", 1)[0]


def parent(fqcn: str, *, root: str = ROOT) -> str | None:
    """The cell directly above by name, or None for the root of the fabric."""
    head, dot, _ = fqcn.rpartition(".")
    if dot:
        return head
    return None if fqcn == root else root


def ancestors(fqcn: str, *, root: str = ROOT) -> tuple[str, ...]:
    """All cells above by name, the nearest first, the root last."""
    found: list[str] = []
    above = parent(fqcn, root=root)
    while above is not None:
        found.append(above)
        above = parent(above, root=root)
    return tuple(found)


def is_parent(above: str, below: str, *, root: str = ROOT) -> bool:
    """Whether `above` is the cell directly above `below`."""
    return parent(below, root=root) == above


def is_ancestor(above: str, below: str, *, root: str = ROOT) -> bool:
    """Whether `above` stands somewhere above `below` in the tree; a cell is not its own ancestor."""
    if above == below:
        return False
    return above == root or below.startswith(above + ".")


def is_within(fqcn: str, subtree: str) -> bool:
    """Whether `fqcn` is `subtree` itself or begins with it and a dot: what a link may speak for."""
    return fqcn == subtree or fqcn.startswith(subtree + ".")


def common_ancestor(one: str, other: str, *, root: str = ROOT) -> str:
    """The lowest cell that is both or above both."""
    line = (one, *ancestors(one, root=root))
    for candidate in (other, *ancestors(other, root=root)):
        if candidate in line:
            return candidate
    return root
