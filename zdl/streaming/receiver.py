"""Receiver: runs a consumer: one stream of objects in, from its factory to the last word.

::

    the stream begins ──▶ get_consumer ──▶ consume, for each object ──▶ finalize ──▶ stream_done_cb ──▶ return_consumer
                              │ raises                │ raises, or wants no more        its result goes back
                              └───────────────────────┴───────────────▶ the same end, with the error

A stream has a thread of the crew's while there is something to do for it, and none while it waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from zdl.cell.cell import BareCell
from zdl.cell.codes import ReturnCode, code_of
from zdl.cell.handlers import Raised, guarded
from zdl.errors import Closed, RemoteError, ZdlError
from zdl.protocol.pushing import Open
from zdl.streaming.api import ConsumerFactory, Context, ObjectConsumer, StreamContextKey
from zdl.streaming.crew import Crew
from zdl.streaming.inflow import Inflow
from zdl.streaming.packer import Packer

Callback = Callable[[Context], object]


@dataclass(frozen=True, slots=True)
class Processing:
    """What is registered for streams of one name; see `Streams.register_stream_processing`."""

    factory: ConsumerFactory
    stream_done_cb: Callback | None
    consumed_cb: Callback | None
    app: object
    resolve: bool
    idle_timeout_s: float | None


class Consuming:
    """One stream in, and its consumer.

    Threads: `woken` on the lane; the rest on threads of the crew, one at a time.

    Args:
        cell: it comes to.
        message: what opened it.
        processing: what is registered for it.
        crew: runs it.
        packer: unpacks objects, packs replies.
    """

    def __init__(self, cell: BareCell, message: Open, processing: Processing, crew: Crew, packer: Packer) -> None:
        self._fqcn = cell.fqcn
        self._processing = processing
        self._crew = crew
        self._packer = packer
        self._lock = threading.Lock()  # guards the two below
        self._is_scheduled = True
        self._is_over = False
        self._wants_end = False
        self._consumer: ObjectConsumer | None = None
        self._context: Context = {}
        self.inflow = Inflow(cell, message, self.woken, processing.idle_timeout_s)
        crew.run(self._begin)

    def __repr__(self) -> str:
        return f"<Consuming {self.inflow!r}>"

    def woken(self) -> None:
        """There is something to do."""
        with self._lock:
            if self._is_scheduled or self._is_over:
                return
            self._is_scheduled = True
        with suppress(Closed):  # then all streams have ended
            self._crew.run(self._work)

    # --- on a thread of the crew ----------------------------------------------------------------

    def _begin(self) -> None:
        inflow = self.inflow
        made = guarded(self._make)
        if isinstance(made, Raised):
            self._end(self._told(made))
        elif not isinstance(self._consumer, ObjectConsumer):
            kind = type(self._consumer).__name__
            self._consumer = None
            self._end(RemoteError(fqcn=self._fqcn, channel=inflow.channel, topic=inflow.topic, kind="TypeError",
                                  text=f"get_consumer returned {kind}, which is no ObjectConsumer"))
        else:
            self._work()

    def _make(self) -> None:
        inflow, key = self.inflow, StreamContextKey
        sent = self._packer.unpack(inflow.context) if inflow.context else {}
        if self._processing.resolve:
            sent = self._packer.resolve(sent)
        if isinstance(sent, dict):
            self._context |= {name: value for name, value in sent.items() if isinstance(name, str)}
        self._context |= {key.CHANNEL: inflow.channel, key.TOPIC: inflow.topic, key.ORIGIN: inflow.origin,
                          key.APP: self._processing.app, key.END_STREAM: self._end_early, key.WORKFLOW: inflow.workflow}
        self._consumer = self._processing.factory.get_consumer(self._context)

    def _work(self) -> None:
        while not self._is_over:
            result = guarded(self._consume_all)
            if isinstance(result, Raised):
                self._end(self._told(result))
                return
            if result:
                self._end(None)
                return
            self.inflow.report()
            with self._lock:
                if not self.inflow.has_work and not self._wants_end:
                    self._is_scheduled = False
                    return

    def _consume_all(self) -> bool:
        """What is there. Returns whether the stream has come to its normal end."""
        inflow = self.inflow
        while not self._wants_end and inflow.has_work:
            parts = inflow.take()
            if parts is None:
                return True
            obj = self._packer.take(parts) if self._processing.resolve else self._packer.unpack(parts)
            assert self._consumer is not None
            answer = self._consumer.consume(obj, self._context)
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise TypeError(f"consume returned {type(answer).__name__}, not a pair: whether to go on, and the reply")
            goes_on, reply = answer
            inflow.consumed(parts, () if reply is None else self._packer.pack(reply, (inflow.origin,))[0])
            if self._processing.consumed_cb is not None:
                self._context[StreamContextKey.ITEM] = obj
                self._processing.consumed_cb(self._context)
            if not goes_on:
                return True
        return self._wants_end

    def _end_early(self) -> None:
        """For the consumer, from any thread."""
        self._wants_end = True
        self.woken()

    def _end(self, error: ZdlError | None) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
        context, consumer, processing = self._context, self._consumer, self._processing
        self._note(error)
        result: object = None
        if consumer is not None:
            finalized = guarded(lambda: consumer.finalize(context))
            error = error or self._failed(finalized)
            self._note(error)
            if processing.stream_done_cb is not None:
                done = processing.stream_done_cb
                result = guarded(lambda: done(context))
                error = error or self._failed(result)
        packed = guarded(lambda: () if error is not None or result is None else self._packer.pack(result, (self.inflow.origin,))[0])
        error = error or self._failed(packed)
        self.inflow.end(error, () if isinstance(packed, Raised) else packed)
        returned = None if consumer is None else guarded(lambda: processing.factory.return_consumer(consumer, context))
        context.pop(StreamContextKey.END_STREAM, None)  # it would keep all of this alive
        if isinstance(returned, Raised):  # nobody is left to be told: the crew logs it
            raise returned.error

    def _note(self, error: ZdlError | None) -> None:
        self._context[StreamContextKey.ERROR] = error
        self._context[StreamContextKey.RC] = ReturnCode.OK if error is None else code_of(error)

    def _failed(self, result: object) -> ZdlError | None:
        return self._told(result) if isinstance(result, Raised) else None

    def _told(self, raised: Raised) -> ZdlError:
        """What the sender gets for what was raised here."""
        if isinstance(raised.error, ZdlError):
            return raised.error
        return RemoteError(fqcn=self._fqcn, channel=self.inflow.channel, topic=self.inflow.topic, kind=raised.kind,
                           text=raised.text)
