"""Containers entry by entry, and nothing by a name from the peer."""

from __future__ import annotations

import numpy as np
import pytest
from streaming.test_files import Lying

from zdl.cell.codes import ReturnCode
from zdl.errors import OptionError, StreamError
from zdl.streaming.containers import CONTAINER, COUNT, KIND, ContainerFactory, ContainerProducer

from trees import Trees


@pytest.mark.row("X10")
@pytest.mark.parametrize("container", [{"a": 1, "b": None}, [1, "two", None], (1, 2), {1, 2, 3}, {}, [], (), set()])
def test_a_container_comes_as_what_it_was(trees: Trees, container: object) -> None:
    server, site = trees.grow("server", "site-1")
    found: list[object] = []
    server.streams.register_stream_processing("a", "b", ContainerFactory(),
                                              stream_done_cb=lambda context: found.append(context[CONTAINER]))
    context: dict[str, object] = {}
    rc, _ = site.streams.stream_objects("a", "b", context, ["server"], ContainerProducer(container, context))
    assert rc is ReturnCode.OK and found == [container] and type(found[0]) is type(container)


def test_large_entries_travel_as_refs(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    found: list[dict[str, np.ndarray]] = []  # type: ignore[type-arg]
    server.streams.register_stream_processing("a", "b", ContainerFactory(),
                                              stream_done_cb=lambda context: found.append(context[CONTAINER]))
    state = {f"layer.{number}": np.full(300_000, number, np.float64) for number in range(4)}
    context: dict[str, object] = {}
    site.streams.stream_objects("a", "b", context, ["server"], ContainerProducer(state, context))
    assert all(np.array_equal(found[0][name], state[name]) for name in state)


@pytest.mark.parametrize(("context", "items"), [
    ({KIND: "os.system", COUNT: 1}, []), ({KIND: "list", COUNT: -1}, []), ({}, []), ({KIND: "list", COUNT: 1}, [[1], [2]]),
    ({KIND: "dict", COUNT: 1}, [[5]]), ({KIND: "set", COUNT: 1}, [[[1]]]), ({KIND: "list", COUNT: 1}, [5])])
def test_what_is_no_container_is_an_error_that_says_so(trees: Trees, context: dict[str, object], items: list[object]) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.register_stream_processing("a", "b", ContainerFactory())
    _, result = site.streams.stream_objects("a", "b", context, ["server"], Lying(*items))
    assert isinstance(result, dict) and isinstance(result["server"], StreamError)
    with pytest.raises(OptionError):
        ContainerProducer(range(3), {})
