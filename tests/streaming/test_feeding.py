"""A stream that is fed by hand: the end of its block is its end, and what the block raises is what the receivers hear."""

from __future__ import annotations

import pytest
from streaming.test_receiver import Noting

from zdl.errors import Cancelled
from zdl.streaming.api import StreamContextKey
from zdl.streaming.feeding import Feeding
from zdl.streaming.sender import ObjectWriter
from zdl.streaming.writer import StreamWriter

from trees import Trees
from waiting import eventually


class Fed(Feeding):
    """Keeps what became of it."""

    def __init__(self) -> None:
        self.happened: list[str] = []

    def close(self) -> None:
        self.happened.append("closed")

    def cancel(self, why: str = "no longer wanted") -> None:
        self.happened.append(why)


def test_a_block_that_ends_closes_once() -> None:
    fed = Fed()
    with fed as inside:
        assert inside is fed and fed.happened == []
    assert fed.happened == ["closed"]


def test_a_block_that_raises_cancels_names_the_error_and_lets_it_go_on() -> None:
    fed = Fed()
    with pytest.raises(LookupError, match="mine"), fed:
        raise LookupError("mine")
    assert fed.happened == ["its writer raised LookupError"]


def test_streams_of_bytes_and_of_objects_are_fed_in_the_same_way(trees: Trees) -> None:
    assert issubclass(StreamWriter, Feeding) and issubclass(ObjectWriter, Feeding)
    server, site = trees.grow("server", "site-1")
    noting = Noting()
    noting.register(server)
    with pytest.raises(LookupError), site.streams.objects("metrics", "round", "server") as out:
        out.put(1)
        raise LookupError("mine")
    eventually(lambda: noting.happened and noting.happened[-1] == "return", what="the end at the receiver")
    error = noting.contexts[0][StreamContextKey.ERROR]
    assert isinstance(error, Cancelled) and "its writer raised LookupError" in str(error)
