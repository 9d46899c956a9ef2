"""Trees: the cells of a test, in this process, started parent first and closed leaf first."""

from __future__ import annotations

import itertools
import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from zdl.assembly import Cell
from zdl.fqcn import parent
from zdl.objects.typetable import TypeTable
from zdl.options import Options

SCHEMES = ("tcp", "ipc", "inproc")


def sent(options: Options | None = None) -> Options:
    """The same options, but what is pulled is sent, chunk by chunk, as between two machines."""
    options = options or Options()
    return replace(options, pulls=replace(options.pulls, same_host=False))


class Trees:
    """Makes cells; a context manager that closes them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._numbers = itertools.count()
        self._folder = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def address(self, scheme: str) -> str:
        """A free address to listen on."""
        if scheme == "ipc":
            return f"ipc://{self.folder}/{next(self._numbers)}"
        return "tcp://127.0.0.1:0" if scheme == "tcp" else f"inproc://test-{uuid.uuid4().hex}"

    @property
    def folder(self) -> Path:
        """A folder with a short name, for sockets; it must be empty in the end."""
        if not self._folder:
            self._folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="zdl-"))
            self._stack.callback(self._check_folder)
        return Path(self._folder)

    def grow(self, *names: str, scheme: str = "tcp", options: Options | None = None,
             types: TypeTable = TypeTable(), same_host: bool = True) -> tuple[Cell, ...]:
        """Cells of these names, parents first, each connected to the one above it.

        Without `same_host` what they pull is sent, chunk by chunk, as between two machines.
        """
        if not same_host:
            options = sent(options)
        by_name: dict[str, Cell] = {}
        for name in names:
            above = parent(name)
            has_children = any(parent(other) == name for other in names)
            cell = Cell(name, parent=by_name[above].addresses[0] if above in by_name else None, options=options, types=types,
                        listen=self.address(scheme) if has_children or above not in by_name else ())
            by_name[name] = self.add(cell)
        return tuple(by_name.values())

    def add(self, cell: Cell) -> Cell:
        """Start this one too, and wait until it is connected."""
        self._stack.enter_context(cell)
        cell.wait_ready(30.0)
        return cell

    def _check_folder(self) -> None:
        left = sorted(path.name for path in self.folder.iterdir())
        assert not left, f"sockets were left behind: {left}"
