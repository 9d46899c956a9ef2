"""What users implement to stream objects, and to take them in; and the words of a stream's context.

The **context** is a dict: what the sender puts in travels once, with the beginning of the stream; from then on each side has its
own, shared by all that is called there for the stream. The keys below are set by each side for itself, and never travel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

Context = dict[str, Any]


class StreamContextKey(StrEnum):
    """Keys in a context that zdl sets.

    ``CHANNEL``, ``TOPIC``: the name of the stream. ``ORIGIN``: who sends. ``APP``: whatever was registered as ``app=`` here,
    untouched. ``WORKFLOW``: what the stream belongs to, or None. ``END_STREAM``: a function without arguments by which a consumer
    ends its own stream, from any thread. ``ITEM``: the item that was consumed, for ``consumed_cb``. ``RC``: how the stream ended,
    a `zdl.cell.codes.ReturnCode`; ``ERROR``: the error, or None.
    """

    CHANNEL = "__channel__"
    TOPIC = "__topic__"
    ORIGIN = "__origin__"
    APP = "__app__"
    WORKFLOW = "__workflow__"
    END_STREAM = "__end_stream__"
    ITEM = "__item__"
    RC = "__rc__"
    ERROR = "__error__"


LOCAL_KEYS = frozenset(StreamContextKey)


class ObjectProducer(ABC):
    """Makes the objects of one stream. Its methods are called by one thread at a time."""

    @abstractmethod
    def produce(self, context: Context) -> tuple[object, float | None]:
        """The next object, and within how many seconds (int or float) each receiver shall have consumed it, counted from when it
        has consumed all before it; None for the cell's default. ``(None, None)``, or None for the object: the stream ends.
        """

    def process_replies(self, replies: Mapping[str, object], context: Context) -> object:
        """All receivers have answered one object, in the order of the objects.

        Args:
            replies: by target: what its consumer answered, or, where the stream has failed there, the error.
            context: of the stream.

        Returns:
            None: the stream goes on. A true value: it ends well, with this as its result. Another false one: it ends with an
            error.
        """

    def finalize(self, context: Context) -> None:
        """The stream has ended, well or not, or could not be opened: let go of what it was made of."""


class ObjectConsumer(ABC):
    """Takes in the objects of one stream. Its methods are called by one thread at a time, in order."""

    @abstractmethod
    def consume(self, obj: object, context: Context) -> tuple[bool, object]:
        """Take one object in. Returns whether to go on, and the reply."""

    def finalize(self, context: Context) -> None:
        """The stream has ended, well or not (``context[StreamContextKey.RC]``); called once, whatever has happened."""


class ConsumerFactory(ABC):
    """Gives a consumer to each stream. Calls of different streams may come at the same time."""

    @abstractmethod
    def get_consumer(self, context: Context) -> ObjectConsumer:
        """A stream has begun: who takes it in?"""

    def return_consumer(self, consumer: ObjectConsumer, context: Context) -> None:
        """The stream has ended, and the consumer is not needed any more."""
