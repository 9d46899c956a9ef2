"""Names of streams: who takes in which."""

from __future__ import annotations

import pytest

from zdl.errors import OptionError, Refused
from zdl.protocol.pushing import Open
from zdl.streaming.registry import Registry


def test_a_name_comes_before_any_name_of_its_channel_and_unknown_ones_are_refused() -> None:
    registry = Registry("server")
    asked: list[str] = []

    def refuse(message: Open) -> object:
        asked.append(message.topic)
        raise Refused(by="server", reason="not-allowed", text="no")

    registry.add("a", "*", refuse)  # type: ignore[arg-type]
    registry.add("a", "b", lambda message: message)  # type: ignore[arg-type, return-value]
    opened = Open("site-1", "server", 1, "a", "b", "bytes", 0, {})
    assert registry.opened(opened) is opened  # type: ignore[comparison-overlap]
    with pytest.raises(Refused, match="not-allowed"):
        registry.opened(Open("site-1", "server", 1, "a", "c", "bytes", 0, {}))
    registry.remove("a", "*")
    with pytest.raises(Refused, match="no-handler.*nobody takes in streams of a/c"):
        registry.opened(Open("site-1", "server", 1, "a", "c", "bytes", 0, {}))
    assert asked == ["c"] and "1 names" in repr(registry)


def test_a_name_is_given_once() -> None:
    registry = Registry("server")
    registry.add("a", "b", print)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="not registered yet"):
        registry.add("a", "b", len)  # type: ignore[arg-type]
    with pytest.raises(OptionError):
        registry.add("a" * 256, "b", print)  # type: ignore[arg-type]
