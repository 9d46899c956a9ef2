"""Sender: runs a producer: makes objects as there is room, hands it the replies in order, and ends the stream at both ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from zdl.cell.codes import ReturnCode, code_of
from zdl.cell.handlers import Raised, guarded
from zdl.errors import Cancelled, OptionError, RemoteError, StreamError, ZdlError
from zdl.streaming.api import Context, ObjectProducer
from zdl.streaming.fan import Fan
from zdl.streaming.feeding import Feeding

_LOG = logging.getLogger("zdl.streaming")
Ended = tuple[ReturnCode, object]
Value = TypeVar("Value")


def run(fan: Fan, producer: ObjectProducer, context: Context, *, fqcn: str, name: str, ahead_max: int | None) -> Ended:
    """From the first object to the end; see `Streams.stream_objects`. Of two errors the first is raised; the log has the other."""
    running = _Run(fan, producer, context, name, ahead_max)
    done = guarded(running.to_end)
    finalized = guarded(lambda: producer.finalize(context))
    if isinstance(finalized, Raised) and not isinstance(done, Raised):
        raise finalized.error
    if isinstance(done, Raised):
        if isinstance(finalized, Raised):
            _LOG.warning("! %s: finalize of the producer of %s, which had failed, raises too", fqcn, name, exc_info=finalized.error)
        error = done.error
        channel, _, topic = name.partition("/")
        fan.fail(error if isinstance(error, ZdlError) else RemoteError(
            fqcn=fqcn, channel=channel, topic=topic, kind=done.kind, text=done.text))
        raise error
    return done


def opened(producer: ObjectProducer, context: Context, open_fan: Callable[[], Value]) -> Value:
    """What is opened for a producer; one whose stream cannot be opened is finalized too, before who asked hears why."""
    is_open = False
    try:
        found = open_fan()
        is_open = True
        return found
    finally:
        if not is_open:
            producer.finalize(context)


def wants_replies(producer: ObjectProducer) -> bool:
    """Whether it does anything with replies."""
    return type(producer).process_replies is not ObjectProducer.process_replies


class _Run:
    """One producer at work."""

    def __init__(self, fan: Fan, producer: ObjectProducer, context: Context, name: str, ahead_max: int | None) -> None:
        self._fan = fan
        self._producer = producer
        self._context = context
        self._name = name
        self._ahead_max = ahead_max

    def to_end(self) -> Ended:
        """Objects, answers, and how it went."""
        fan = self._fan
        ended = self._produce()
        if ended is None and not fan.is_aborted:  # one that is aborted has no normal end, which its receivers might hear first
            fan.finish()
            ended = self._answers(lambda: not fan.live)
        if ended is not None and ended[0] is ReturnCode.OK:
            fan.finish()
            fan.wait(lambda: not fan.live)
        if fan.is_aborted:
            fan.fail(Cancelled(what=f"stream {self._name}", why="its sender's signal was triggered"))
            return ReturnCode.ABORT_RUN, None
        if ended is not None:
            return ended
        results = fan.results()
        return code_of(next((each for each in results.values() if isinstance(each, ZdlError)), None)), results

    def _produce(self) -> Ended | None:
        """Objects, until there are no more, or nobody wants them; what the replies have ended it with."""
        fan = self._fan
        while True:
            ended = self._answers(lambda: fan.may_put(self._ahead_max))
            if ended is not None or fan.is_aborted or not fan.live:
                return ended
            obj, timeout_s = _checked(self._producer.produce(self._context), self._name)
            if obj is None:
                return None
            fan.put(obj, timeout_s)

    def _answers(self, is_done: Callable[[], bool]) -> Ended | None:
        """Hands over replies as they come, until it is done; what they have ended the stream with."""
        fan = self._fan
        while True:
            while fan.has_answer():
                verdict = self._verdict()
                if verdict is not None:
                    return verdict
            if is_done() or fan.is_aborted:
                return None
            fan.wait(lambda: fan.has_answer() or is_done())

    def _verdict(self) -> Ended | None:
        verdict = self._producer.process_replies(self._fan.take_answer(), self._context)
        if verdict is None:
            return None
        if verdict:
            return ReturnCode.OK, verdict
        self._fan.fail(StreamError(what=f"stream {self._name}: its producer was not content with the replies"))
        return ReturnCode.PROCESS_EXCEPTION, verdict


def _checked(produced: object, name: str) -> tuple[object, float | None]:
    """What a producer has returned, if it is what it must be."""
    if not isinstance(produced, tuple) or len(produced) != 2:
        raise OptionError(name="produce", value=f"{type(produced).__name__} in stream {name}",
                          allowed="a pair: the object, or None for the end, and its timeout in seconds, or None")
    obj, timeout_s = produced
    is_number = isinstance(timeout_s, (int, float)) and not isinstance(timeout_s, bool)
    if timeout_s is not None and not (is_number and timeout_s > 0) and obj is not None:
        raise OptionError(name="timeout", value=f"{timeout_s!r:.40} in stream {name}", allowed="a number above 0, int or float")
    return obj, float(timeout_s) if is_number else None


class ObjectWriter(Feeding):
    """A stream of objects that is fed by hand, to one or more cells.

    As a context manager it ends normally when the block does, and waits until all receivers have finished.

    Threads: one at a time.

    Args:
        fan: where the objects go.
        name: of the stream.
    """

    def __init__(self, fan: Fan, name: str) -> None:
        self._fan = fan
        self._name = name

    def __repr__(self) -> str:
        return f"<ObjectWriter {self._name}: {self._fan!r}>"

    def put(self, obj: object, *, timeout_s: float | None = None) -> None:
        """One more object; waits while all receivers are a window behind.

        Raises:
            ZdlError: the stream has ended at all receivers, with this at the first of them.
        """
        fan = self._fan
        if not fan.may_put(None):
            fan.wait(lambda: fan.may_put(None))
        if not fan.live:
            for result in fan.results().values():
                if isinstance(result, ZdlError):
                    raise result
            raise StreamError(what=f"stream {self._name} was ended by its receivers: they want no more")
        fan.put(obj, timeout_s)

    def close(self) -> dict[str, object]:
        """End normally, and wait until all receivers have finished.

        Returns:
            By target: what the receiver's `stream_done_cb` returned, or the error of the stream there.

        Raises:
            ZdlError: it has failed at the only receiver.
        """
        self._fan.finish()
        self._fan.wait(lambda: not self._fan.live)
        results = self._fan.results()
        if len(results) == 1:
            for result in results.values():
                if isinstance(result, ZdlError):
                    raise result
        return results

    def cancel(self, why: str = "no longer wanted") -> None:
        """Break off; the receivers are told."""
        self._fan.fail(Cancelled(what=f"stream {self._name}", why=why))
