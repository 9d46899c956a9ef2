"""The hub: what kinds of streams share, and what is checked for all of them."""

from __future__ import annotations

import threading

import pytest

from zdl.errors import NoRoute, OptionError, Refused
from zdl.protocol.pushing import Open
from zdl.streaming.hub import OBJECTS, Hub

from trees import Trees


def test_a_stream_of_another_form_is_refused(trees: Trees) -> None:
    server, = trees.grow("server")
    hub = Hub(server, None)
    hub.check_form(Open("site-1", "server", 1, "a", "b", OBJECTS, 0, {}), OBJECTS)
    with pytest.raises(Refused, match="a/b takes objects, not bytes"):
        hub.check_form(Open("site-1", "server", 1, "a", "b", "bytes", 0, {}), OBJECTS)
    assert hub.close(1.0) == [] and "server" in repr(hub)


def test_what_cannot_be_sent_is_refused_before_anybody_is_asked(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    hub = Hub(site, None)
    with pytest.raises(OptionError, match="a plain value|headers|allowed"):
        hub.outflow(OBJECTS, ("a", "b", "server"), threading.Condition(), headers={"a": object()})
    with pytest.raises(NoRoute):
        hub.outflow(OBJECTS, ("a", "b", "site-2"), threading.Condition())
    hub.close(1.0)
