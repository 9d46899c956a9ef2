"""Containers as streams of objects: entry by entry, so that neither side packs all of it at once.

What kind of container is built at the other end is one of four words; nothing is loaded by a name from the peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from zdl.errors import OptionError, StreamError
from zdl.streaming.api import ConsumerFactory, Context, ObjectConsumer, ObjectProducer

# Keys of the context: what it is; how many entries it has; what has come of it, when it is whole.
KIND, COUNT, CONTAINER = "container_kind", "container_count", "container"
_BUILT: Mapping[str, Callable[[list[Any]], object]] = MappingProxyType({
    "dict": dict, "list": list, "tuple": tuple, "set": set})


class ContainerProducer(ObjectProducer):
    """The entries of a dict, list, tuple or set, one by one; of a dict as pairs.

    Args:
        container: must not change until the stream has ended; it may be empty.
        context: of the stream; what it is and how many entries it has are put in.
        entry_timeout_s: within which each entry shall be consumed; None for the cell's default.

    Raises:
        OptionError: it is of another kind.
    """

    def __init__(self, container: object, context: Context, *, entry_timeout_s: float | None = None) -> None:
        kind = type(container).__name__
        if not isinstance(container, (dict, list, tuple, set)) or kind not in _BUILT:
            raise OptionError(name="container", value=kind, allowed=f"one of {', '.join(_BUILT)}")
        context |= {KIND: kind, COUNT: len(container)}
        self._entries: Iterator[object] = iter(container.items() if isinstance(container, dict) else container)
        self._timeout_s = entry_timeout_s

    def produce(self, context: Context) -> tuple[object, float | None]:
        """The next entry, in a list of one, since None is an entry too."""
        for entry in self._entries:
            return [list(entry) if context[KIND] == "dict" and isinstance(entry, tuple) else entry], self._timeout_s
        return None, None


class _ContainerConsumer(ObjectConsumer):
    """Collects the entries."""

    def __init__(self, context: Context) -> None:
        kind, count = context.get(KIND), context.get(COUNT)
        if kind not in _BUILT or type(count) is not int or count < 0:
            raise StreamError(what=f"{kind!r:.40} with {count!r:.40} entries is no container that can be streamed")
        self._built, self._count = _BUILT[str(kind)], count
        self._entries: list[Any] = []
        self._build(context)

    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        """One entry."""
        if not isinstance(obj, list) or len(obj) != 1 or len(self._entries) == self._count:
            raise StreamError(what=f"entry {len(self._entries)} of {self._count} is none")
        self._entries.append(obj[0])
        self._build(context)
        return True, None

    def _build(self, context: Context) -> None:
        if len(self._entries) == self._count:
            try:
                context[CONTAINER] = self._built(self._entries)
            except (TypeError, ValueError) as error:
                raise StreamError(what=f"the entries make no container: {error}") from error


class ContainerFactory(ConsumerFactory):
    """Takes containers in: to be registered with ``register_stream_processing``; ``stream_done_cb`` finds it under `CONTAINER`."""

    def get_consumer(self, context: Context) -> ObjectConsumer:
        """One for each container."""
        return _ContainerConsumer(context)
