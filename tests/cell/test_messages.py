"""What handlers and callers hold in their hands: a request, a reply, an answer."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from zdl.cell.messages import REFS_HEADER, Answer, Reply, Request
from zdl.cell.signal import Signal
from zdl.errors import CannotUnpack, NoRoute
from zdl.objects.pack import pack
from zdl.options import PackOptions

OPTIONS = PackOptions()


def reply(body: object, **headers: object) -> Reply:
    return Reply("site-1", headers, 2, pack(body, options=OPTIONS).parts, OPTIONS)


def test_a_reply_unpacks_its_body_when_it_is_looked_at() -> None:
    it = reply({"x": np.arange(3)})
    assert repr(it).startswith("<Reply from site-1, 2 hops, ")
    body = it.body
    assert isinstance(body, dict) and np.array_equal(body["x"], [0, 1, 2])
    assert it.body is body, "once"


def test_a_body_that_is_none_is_unpacked_once_too() -> None:
    it = reply(None)
    assert it.body is None
    assert it.body is None


def test_a_body_is_unpacked_once_whoever_looks() -> None:
    it = reply(list(range(10_000)))
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(it.body)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(body) for body in seen}) == 1


def test_a_body_that_is_none_of_ours_is_an_error_each_time() -> None:
    it = Reply("site-1", {}, 0, (b"\xc1",), OPTIONS)
    for _ in range(2):
        with pytest.raises(CannotUnpack):
            it.body


def test_a_reply_with_another_body_keeps_the_rest() -> None:
    it = reply([1], colour="red").with_body(lambda body: (body, 2))
    assert (it.body, it.origin, it.headers, it.hops) == (([1], 2), "site-1", {"colour": "red"}, 2)


def test_the_sender_says_whether_there_are_refs() -> None:
    assert not reply(1).has_refs
    assert reply(1, **{REFS_HEADER: True}).has_refs


def test_an_answer_is_a_reply_or_an_error() -> None:
    good = Answer("site-1", reply(5), None)
    assert (good.is_ok, good.body) == (True, 5)
    bad = Answer("site-1", None, NoRoute(target="site-1", at="server"))
    assert not bad.is_ok
    with pytest.raises(NoRoute):
        bad.body


def test_a_request_cannot_be_changed_and_does_not_show_its_signal() -> None:
    request = Request("site-1", "server", "task", "run", 1, {}, 0, None, Signal())
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.content = 2  # type: ignore[misc]
    assert "Signal" not in repr(request)
