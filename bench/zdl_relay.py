"""A cell that passes on what its children send each other."""

from __future__ import annotations

from zdl.assembly import Cell
from zdl_bench.endpoints import listening
from zdl_bench.ends import ZdlLeaf
from zdl_bench.role import CellRole

__all__ = ["Leaf", "Origin"]
Leaf = ZdlLeaf


class Origin(CellRole):
    """The relay."""

    def start(self, *, scheme: str, folder: str) -> dict[str, str]:
        """Listens; returns where."""
        cell = self._open.enter_context(Cell("server", listen=(listening(scheme, folder=folder),)))
        return {"address": cell.addresses[0]}
