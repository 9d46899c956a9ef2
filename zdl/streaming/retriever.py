"""Retriever: ask a cell to stream something to me: objects, a file, a container.

::

    asker                                   owner
      │ request: what, and under which name ──▶ │  finds a producer for it, or says no
      │ ◀──────────── the stream of that name   │  each object tells the asker's request that it goes on
      │ ◀──────────────────────────── reply     │
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from zdl.cell.cell import BareCell
from zdl.cell.codes import ReturnCode
from zdl.cell.messages import Request
from zdl.cell.signal import Signal
from zdl.cell.threaded import threaded
from zdl.cell.workflow import Workflow
from zdl.errors import StreamError, ZdlError
from zdl.streaming.api import ConsumerFactory, Context, ObjectProducer, StreamContextKey
from zdl.streaming.service import Streams

# Makes the producer for what is asked for, and puts into the context what shall travel; None: there is no such thing.
Find = Callable[[object, Context], ObjectProducer | None]


class Retriever:
    """Both sides of one name under which things can be asked for.

    Threads: `retrieve` from any thread but the loops'; `find` is called on the handler pool.

    Args:
        cell: of this side.
        streams: its streaming service.
        channel: first half of the name.
        topic: second half.
    """

    def __init__(self, cell: BareCell, streams: Streams, channel: str, topic: str) -> None:
        self._cell = cell
        self._streams = streams
        self._channel = channel
        self._topic = topic

    def __repr__(self) -> str:
        return f"<Retriever {self._channel}/{self._topic} of {self._cell.fqcn}>"

    def serve(self, find: Find) -> None:
        """Stream to whoever asks what `find` makes of his question."""
        self._cell.handler(self._channel, self._topic)(lambda request: self._answer(request, find))

    def retrieve(self, owner: str, what: object, factory: ConsumerFactory, *, timeout_s: float = 30.0,
                 abort: Signal | None = None, workflow: Workflow | None = None) -> Context:
        """Have the owner stream it here.

        Args:
            owner: FQCN.
            what: the question, a plain value; what it means is the owner's business.
            factory: its consumer takes in what comes.
            timeout_s: no object, and no answer, for so long ends it; it begins anew with each object.
            abort: triggering it ends the question, and what the owner streams for it.
            workflow: what the question belongs to, and the stream that answers it.

        Returns:
            The context of the stream, as the consumer has left it: the file's place, the container.

        Raises:
            StreamError: the owner has no such thing, or the stream has failed.
            RemoteError, NoRoute, TimedOut, …: the question could not be asked, or was not answered.
        """
        name = f"{self._topic}/{secrets.token_hex(8)}"
        contexts: list[Context] = []
        self._streams.register_stream_processing(self._channel, name, factory, idle_timeout_s=timeout_s,
                                                 stream_done_cb=lambda context: contexts.append(dict(context)))
        try:
            reply = self._cell.request(owner, self._channel, self._topic, {"what": what, "name": name}, timeout_s=timeout_s,
                                       abort=abort, workflow=workflow)
        finally:
            self._streams.unregister(self._channel, name)
        told = reply.body if isinstance(reply.body, str) else "it answered something else"
        error = contexts[0].get(StreamContextKey.ERROR) if contexts else None
        if isinstance(error, ZdlError):
            raise error
        if told or not contexts:
            raise StreamError(what=f"{owner} did not stream {what!r:.100}: {told or 'nothing came'}")
        return contexts[0]

    async def awaited(self, owner: str, what: object, factory: ConsumerFactory, *, timeout_s: float = 30.0,
                      workflow: Workflow | None = None) -> Context:
        """The awaitable twin of `retrieve`; a task that is cancelled gives up what comes, and returns when that has ended."""
        abort = Signal()
        return await threaded(partial(self.retrieve, owner, what, factory, timeout_s=timeout_s, abort=abort, workflow=workflow),
                              abort.trigger)

    def _answer(self, request: Request, find: Find) -> object:
        """On the handler pool: empty, or why not."""
        asked = request.body if isinstance(request.body, Mapping) else {}
        name = asked.get("name")
        if not isinstance(name, str) or not name.startswith(f"{self._topic}/"):
            return "the question has no name for the answer"
        context: Context = {}
        producer = find(asked.get("what"), context)
        if producer is None:
            return "there is no such thing"
        telling = _Telling(producer, request)
        try:
            rc, result = self._streams.stream_objects(self._channel, name, context, [request.origin], telling, ahead_max=8,
                                                      abort=request.abort, workflow=request.workflow)
        finally:
            producer.finalize(context)
        return "" if rc is ReturnCode.OK else f"{rc}: {result}"[:1000]


class _Telling(ObjectProducer):
    """A producer whose every object tells the asker's request that it goes on."""

    def __init__(self, producer: ObjectProducer, request: Request) -> None:
        self._producer = producer
        self._request = request

    def produce(self, context: Context) -> tuple[object, float | None]:
        """The next object."""
        with suppress(ZdlError):  # then nobody waits any more, which the signal says
            self._request.progress()
        return self._producer.produce(context)

    def process_replies(self, replies: Mapping[str, object], context: Context) -> object:
        """As the producer has it."""
        return self._producer.process_replies(replies, context)
