"""A cell that passes on what its children send each other."""

from __future__ import annotations

from contextlib import ExitStack

from zdl.assembly import Cell
from zdl_bench.endpoints import listening
from zdl_bench.ends import ZdlLeaf

__all__ = ["Leaf", "Origin"]
Leaf = ZdlLeaf


class Origin:
    """The relay."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        cell = self._open.enter_context(Cell("server", listen=(listening(scheme, folder=folder),)))
        return {"address": cell.addresses[0]}

    def stop(self) -> None:
        """Closes the cell."""
        self._open.close()
