"""Feeding: a stream that is fed by hand ends with its block: normally, or, when the block raises, broken off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Feeding(ABC):
    """What `StreamWriter` and `ObjectWriter` are as context managers.

    The end of the block is the stream's normal end, and waits until the receivers have finished; when the block raises, they
    hear that the stream was broken off, and by which error.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            self.close()
        else:
            self.cancel(f"its writer raised {type(error).__name__}")

    @abstractmethod
    def close(self) -> object:
        """End normally, and wait until the receivers have finished."""

    @abstractmethod
    def cancel(self, why: str = ...) -> None:
        """Break off; the receivers are told why."""
