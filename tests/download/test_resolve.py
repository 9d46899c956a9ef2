"""Resolve: refs inside an object are replaced by what they stand for, each offer fetched once."""

from __future__ import annotations

from zdl.download.resolve import pull_refs, resolve
from zdl.download.sinks import MemorySink
from zdl.refs import Ref, Source


def source(name: str, total: int = 1000) -> Source:
    return Source(name, name.encode().ljust(16), bytes(16), total)


def ref(of: Source, offset: int, length: int, kind: str = "bytes") -> Ref:
    return Ref(of, 0, offset, length, kind)


class Fetched:
    """A fetch that fills each sink with the number of its offset, and counts."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, wanted: list[tuple[Source, MemorySink]]) -> None:
        self.batches.append([each.origin for each, _ in wanted])
        for _, sink in wanted:
            for offset, length in sink.ranges:
                sink.view(offset, length)[:] = bytes(at % 256 for at in range(offset, offset + length))


def test_an_object_without_refs_is_itself() -> None:
    fetch, body = Fetched(), {"a": [1, (2, b"x")]}
    assert resolve(body, fetch, "torch") is body
    assert fetch.batches == []


def test_refs_are_replaced_wherever_they_are_and_each_offer_is_fetched_once() -> None:
    fetch, one, two = Fetched(), source("site-1"), source("site-2")
    first, second, third = ref(one, 0, 3), ref(one, 64, 2), ref(two, 128, 1)
    body = {"a": [first, {"b": (second, 7)}], "c": third, "d": first}
    assert resolve(body, fetch, "torch") == {"a": [b"\0\1\2", {"b": (b"@A", 7)}], "c": b"\x80", "d": b"\0\1\2"}
    assert fetch.batches == [["site-1", "site-2"]]


def test_a_ref_alone_is_an_object_too() -> None:
    assert resolve(ref(source("site-1"), 1, 2), Fetched(), "torch") == b"\1\2"


def test_files_stay_refs() -> None:
    fetch, file = Fetched(), ref(source("site-1"), 0, 10, "file")
    body = [file]
    assert resolve(body, fetch, "torch") is body
    mixed = resolve([file, ref(source("site-1"), 0, 1)], fetch, "torch")
    assert mixed == [file, b"\0"]


def test_refs_that_are_equal_are_one_object() -> None:
    of = source("site-1")
    found = resolve([ref(of, 0, 3), ref(of, 0, 3)], Fetched(), "torch")
    assert isinstance(found, list) and found[0] is found[1]


def test_refs_are_pulled_by_themselves() -> None:
    of = source("site-1")
    wanted = [ref(of, 0, 1), ref(of, 500, 2)]
    assert pull_refs(wanted, Fetched(), "torch") == {wanted[0]: b"\0", wanted[1]: b"\xf4\xf5"}
    assert pull_refs([], Fetched(), "torch") == {}
