"""Unopened: whoever looks at it sees what would have been unpacked, and it is unpacked no sooner than that is needed."""

from __future__ import annotations

import copy
import json
import pickle
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from zdl.errors import CannotUnpack
from zdl.objects.batch import Batch
from zdl.objects.pack import pack
from zdl.objects.unopened import Unopened, opened
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Ref, Source

OPTIONS = PackOptions()
SOURCE = Source("site-1", bytes(16), bytes(16), 100_000)
MODEL = {f"h.{number}": Ref(SOURCE, number, number * 64, 64, "array", "<f4", (4, 4)) for number in range(100)}
BODY: dict[str, Any] = {"model": MODEL, "to": "site-2", "lr": 0.5, "none": None, "yes": True, "n": -3, "raw": b"xy",
                        "list": [1, 2], "w": np.arange(3)}


class Counted:
    """Parts, and how often they have been unpacked."""

    def __init__(self, body: object) -> None:
        self.parts = pack(body, options=OPTIONS).parts
        self.count = 0

    def unpack(self) -> object:
        self.count += 1
        return unpack(self.parts, options=OPTIONS)

    def opened(self) -> Any:
        return opened(self.parts, self.unpack, skeleton_bytes_max=OPTIONS.skeleton_bytes_max)


def test_plain_values_are_there_and_nothing_is_unpacked_for_them() -> None:
    counted = Counted(BODY)
    found = counted.opened()
    assert [found[key] for key in ("to", "lr", "none", "yes", "n", "raw")] == ["site-2", 0.5, None, True, -3, b"xy"]
    assert found.get("to") == "site-2" and found.get("no") is None and found.get("no", 7) == 7
    assert list(found) == list(found.keys()) == list(BODY) and len(found) == len(BODY) and "model" in found and "no" not in found
    with pytest.raises(KeyError):
        found["no"]
    assert type(found) is Unopened and found.parts == counted.parts and counted.count == 0


def test_any_other_value_has_all_of_it_unpacked_once() -> None:
    counted = Counted(BODY)
    found = counted.opened()
    assert found["model"] == MODEL and type(found["model"]) is Batch and found["list"] == [1, 2]
    assert found.get("w").tolist() == [0, 1, 2]
    assert counted.count == 1 and found.parts == ()


@pytest.mark.parametrize("look", [
    dict, copy.copy, copy.deepcopy, lambda found: pickle.loads(pickle.dumps(found)), lambda found: {**found},
    lambda found: (lambda **named: named)(**found), lambda found: found | {}, lambda found: {} | found, lambda found: found.copy(),
    lambda found: dict(found.items()), lambda found: dict(zip(found, found.values())),
    lambda found: {key: found[key] for key in found},
    lambda found: found.pop("model") and {**BODY, **found}, lambda found: Batch(found),
])
def test_whatever_copies_it_copies_its_values(look: Callable[[Any], Any]) -> None:
    found = look(Counted({"model": MODEL, "to": "site-2"}).opened())
    assert found["model"] == MODEL and found["to"] == "site-2"
    assert all(type(each) is Ref for each in found["model"].values())


def test_it_is_equal_and_shown_and_refused_as_any_dict() -> None:
    body = {"model": MODEL, "to": "site-2"}
    assert Counted(body).opened() == body and body == Counted(body).opened() and not Counted(body).opened() != body
    assert "not unpacked" not in repr(Counted(body).opened())
    assert len(Counted(body).opened().refs) == len(MODEL) and len(Counted(body).opened().select("model.h.1*")["model"]) == 11
    with pytest.raises(TypeError, match="Ref"):
        json.dumps(Counted(body).opened())


@pytest.mark.parametrize("change", [
    lambda found: found.update(to="x"), lambda found: found.__setitem__("to", "x"), lambda found: found.__ior__({"to": "x"}),
    lambda found: (found.pop("to"), found.setdefault("to", "x")),
    lambda found: (found.__delitem__("to"), found.update({"to": "x"})),
    lambda found: [found.popitem(), found.update(to="x")],
])
def test_what_is_changed_is_no_longer_what_came(change: Callable[[Any], object]) -> None:
    found = Counted({"model": MODEL, "to": "site-2"}).opened()
    change(found)
    assert found.parts == () and found == {"model": MODEL, "to": "x"}
    found.clear()
    assert found == {}


@pytest.mark.parametrize("body", [
    MODEL["h.0"], [MODEL], {1: MODEL["h.0"]}, {"a": 1}, "text", {"w": np.zeros(4)}, {}, {("a", 1): MODEL}])
def test_what_is_no_dict_of_texts_with_refs_in_it_is_unpacked_at_once(body: object) -> None:
    counted = Counted(body)
    found = counted.opened()
    assert counted.count == 1 and type(found) is not Unopened


def test_of_a_state_the_keys_are_there() -> None:
    counted = Counted({**MODEL, "step": 3})
    found = counted.opened()
    assert list(found) == [*MODEL, "step"] and counted.count == 0
    assert found["step"] == 3 and found["h.7"] == MODEL["h.7"] and counted.count == 1


def test_bytes_that_are_no_object_are_found_out_at_the_latest_when_one_looks() -> None:
    skeleton = pack({"model": {**MODEL, "s": "text", "t": (1, 2)}, "to": "site-2"}, options=OPTIONS).parts[0]
    chance = random.Random(4)
    seen = {True: 0, False: 0}
    for _ in range(3000):
        broken = bytearray(skeleton)
        for _ in range(chance.randint(1, 3)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        parts = (bytes(broken[:chance.choice((len(broken), len(broken), chance.randrange(len(broken))))]),)
        whole: Any = partial(unpack, parts, options=OPTIONS)
        try:
            expected = whole()
        except CannotUnpack:
            seen[False] += 1
            with pytest.raises(CannotUnpack):
                dict(opened(parts, whole, skeleton_bytes_max=OPTIONS.skeleton_bytes_max))  # type: ignore[call-overload]
        else:
            seen[True] += 1
            assert repr(opened(parts, whole, skeleton_bytes_max=OPTIONS.skeleton_bytes_max)) == repr(expected)
    assert min(seen.values()) > 100


def test_what_cannot_be_unpacked_says_so_each_time_one_looks_and_what_is_plain_stays() -> None:
    counted = Counted(BODY)

    def fail() -> object:
        raise CannotUnpack(path="model", reason="no")

    found: Any = opened(counted.parts, fail, skeleton_bytes_max=OPTIONS.skeleton_bytes_max)
    for _ in range(2):
        with pytest.raises(CannotUnpack, match="no"):
            found["model"]
    assert found["to"] == "site-2" and found.parts == counted.parts


def test_a_skeleton_over_the_limit_and_no_parts_are_left_to_who_unpacks() -> None:
    for parts, limit in ((Counted(BODY).parts, 100), ((), 1 << 20)):
        with pytest.raises(CannotUnpack):
            opened(parts, partial(unpack, parts, options=PackOptions(skeleton_bytes_max=limit)), skeleton_bytes_max=limit)


def test_threads_that_look_at_once_see_the_same() -> None:
    counted = Counted(BODY)
    found = counted.opened()
    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(found["model"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8 and len({id(each) for each in seen}) == 1
