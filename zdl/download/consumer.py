"""Consumer: what a user implements to take in what a `Downloadable` produces; ItemConsumer: for items, as they come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from zdl.download.downloadable import State


class Consumer(ABC):
    """Takes the pieces of one download, in order.

    Threads: all methods are called by the thread that pulls.

    Attributes:
        supports_pipelining: `consume` returns the state as it was given. Further pieces are then asked for, and made,
            while this one is consumed; else one at a time.
    """

    supports_pipelining: bool = False

    @abstractmethod
    def consume(self, ref_id: str, state: State, data: Any) -> State:
        """Take in one piece.

        Args:
            ref_id: names the object.
            state: what the producer gave with the piece.
            data: the piece.

        Returns:
            The state for the producer to go on from: mostly the one given. Anything but a dict, or an exception, ends the
            download.
        """

    @abstractmethod
    def download_completed(self, ref_id: str) -> None:
        """All pieces were consumed. The origin hears of it when this has returned; what it raises is raised by the pull."""

    @abstractmethod
    def download_failed(self, ref_id: str, reason: str) -> None:
        """It ended before. Called once, and then the pull raises; what this raises is logged."""


class ItemConsumer(Consumer):
    """Takes in lists of items, as a `CacheableObject` produces them.

    Attributes:
        result: what `consume_items` returned last. Without any item it is `empty_result()`; None after a failure.
        error: why it failed; empty after a success.
    """

    supports_pipelining: bool = True

    def __init__(self) -> None:
        self.result: Any = None
        self.error = ""

    @abstractmethod
    def consume_items(self, items: list[Any], result: Any) -> Any:
        """Take in some items.

        Args:
            items: in their order; at least one.
            result: what this returned before; None the first time.

        Returns:
            The result so far.
        """

    def empty_result(self) -> Any:
        """The result of an object without items: by default an empty list."""
        return []

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        """A list of items."""
        if not isinstance(data, list):
            raise TypeError(f"a piece must be a list of items, not a {type(data).__name__}")
        if data:
            self.result = self.consume_items(data, self.result)
        return state

    def download_completed(self, ref_id: str) -> None:
        """Without any item, there is an empty result."""
        if self.result is None:
            self.result = self.empty_result()

    def download_failed(self, ref_id: str, reason: str) -> None:
        """No half results."""
        self.result = None
        self.error = reason


class Pieces(Consumer):
    """Keeps all pieces, in a list; what a pull uses when it is given no consumer.

    Attributes:
        pieces: so far.
    """

    supports_pipelining: bool = True

    def __init__(self) -> None:
        self.pieces: list[Any] = []

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        """Keep it."""
        self.pieces.append(data)
        return state

    def download_completed(self, ref_id: str) -> None:
        """They stay."""

    def download_failed(self, ref_id: str, reason: str) -> None:
        """No half results."""
        self.pieces = []
