"""A role that runs cells: what it has opened is closed when it is asked to stop."""

from __future__ import annotations

from contextlib import ExitStack

from zdl import Options, PullOptions

# What is pulled is sent, as between two machines: shared memory is measured by `zdl bench local`.
SENT = Options(pulls=PullOptions(same_host=False))


class CellRole:
    """One end of a question, in a process of its own; `start` of a subclass opens its cells with ``self._open``."""

    def __init__(self) -> None:
        self._open = ExitStack()

    def stop(self) -> None:
        """Closes the cells."""
        self._open.close()
