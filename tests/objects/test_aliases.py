"""Aliases: a container that stands in several places travels once, and comes out as one; what contains itself does not travel."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest

from zdl.errors import CannotPack, CannotUnpack, TooLarge
from zdl.objects.aliases import Aliased, Shared, with_aliases_marked
from zdl.objects.externalize import find_refs, replace_refs
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack
from zdl.objects.typetable import Code, TypeTable, kinds_within
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Source

OPTIONS = PackOptions()
LENDING = PackOptions(inline_bytes_max=1, beside_bytes_max=1)


@dataclass(eq=False)
class Layer:
    """A class of a user's."""

    weights: Any
    made: int = 0

    def __post_init__(self) -> None:
        self.made += 1


TYPES = TypeTable().with_type(Layer)


def there_and_back(obj: object, options: PackOptions = OPTIONS) -> Any:
    return unpack(pack(obj, options=options, types=TYPES).parts, options=options, types=TYPES)


def lend(manifest: Manifest, lent: list[Lent]) -> Source:
    return Source("server", b"i" * 16, b"s" * 16, manifest.bytes_total)


def skeleton(root: object) -> tuple[bytes]:
    return (msgpack.packb([[], root]),)


def shared(number: int, node: object) -> object:
    return [msgpack.ExtType(Code.SHARED, msgpack.packb([number])), node]


def alias(number: int) -> object:
    return msgpack.ExtType(Code.ALIAS, msgpack.packb([number]))


@pytest.mark.row("B6")
@pytest.mark.parametrize("container", [[1, 2], {"a": 1}, deque([1], 5), {1, 2}, Layer(3), [], {}, [[1], {"b": [2]}]])
def test_b6_a_container_that_stands_in_several_places_is_one_afterwards(container: object) -> None:
    found = there_and_back({"first": container, "again": [container, (container, {"deep": container})], "else": [1, 2]})
    first = found["first"]
    assert found["again"][0] is first and found["again"][1][0] is first and found["again"][1][1]["deep"] is first
    assert type(first) is type(container) and found["else"] is not first


def test_what_is_shared_may_hold_what_is_shared_and_arrays_in_it_are_one_too() -> None:
    array, inner = np.arange(3), [1]
    outer = {"inner": inner, "array": array}
    found = there_and_back([outer, inner, outer, {"array": array, "inner": inner}])
    assert found[0] is found[2] and found[0]["inner"] is found[1] is found[3]["inner"]
    assert found[0]["array"] is found[3]["array"]


def test_it_travels_once() -> None:
    large = list(range(1000))
    once, often = (len(pack(obj, options=OPTIONS).parts[0]) for obj in ([large], [large] * 50))
    assert often < once + 50 * 8


def test_tuples_are_written_each_time_and_what_is_in_them_is_shared() -> None:
    inner = [1]
    pair = (inner, 2)
    found = there_and_back([pair, pair])
    assert found == [([1], 2), ([1], 2)] and found[0][0] is found[1][0]
    assert len(pack([(1, 2)] * 2, options=OPTIONS).parts[0]) == len(pack([(1, 2), (1, 2 + 0)], options=OPTIONS).parts[0])


def test_no_container_of_the_sender_is_changed() -> None:
    inner = [1]
    obj = {"a": inner, "b": OrderedDict(c=inner)}
    marked = with_aliases_marked(obj)
    assert obj == {"a": [1], "b": {"c": [1]}} and obj["a"] is inner
    assert isinstance(marked, dict) and isinstance(marked["a"], Shared) and marked["a"] is marked["b"]["c"]
    plain = {"a": [1], "b": [1]}
    assert with_aliases_marked(plain) is plain


def test_a_value_of_a_users_type_is_built_once_and_its_containers_too() -> None:
    weights = [Layer([1])]
    layer = Layer(weights)
    found = there_and_back([layer, layer, weights, {"w": weights}])
    assert found[0] is found[1] and found[0].weights is found[2] is found[3]["w"] and found[2][0].made == 1 + 1


def test_large_bytes_and_refs_within_are_lent_once_and_the_containers_stay_one() -> None:
    inner = {"raw": b"x" * 100, "array": np.zeros(100), "layer": Layer(np.ones(50))}
    packed = pack({"a": inner, "b": [inner]}, options=LENDING, types=TYPES, lend=lend)
    assert packed.lent_count == 3
    found: Any = unpack(packed.parts, options=LENDING, types=TYPES)
    assert found["a"] is found["b"][0] and len(find_refs(found)) == 3
    whole: Any = replace_refs(found, {ref: number for number, ref in enumerate(find_refs(found))})
    assert whole["a"] is whole["b"][0] and isinstance(whole["a"]["layer"], Layer)
    again: Any = unpack(pack(found, options=LENDING, types=TYPES).parts, options=LENDING, types=TYPES)
    assert again["a"] is again["b"][0]


@pytest.mark.row("B6")
def test_b6_what_contains_itself_is_refused_with_its_path() -> None:
    ring: list[Any] = [1]
    ring.append({"back": ring})
    with pytest.raises(CannotPack, match="contains itself") as caught:
        pack({"model": [0, ring]}, options=OPTIONS)
    assert caught.value.path == "model[1][1].back"
    both = [1]
    with pytest.raises(CannotPack, match="contains itself"):
        pack([both, both, ring], options=OPTIONS)


def test_the_quick_look_says_whether_a_container_is_met_twice() -> None:
    inner = [1.0]
    assert Aliased not in kinds_within([[1], [1], {"a": [2]}], depth_max=9, elements_max=99)
    assert kinds_within([inner, inner], depth_max=9, elements_max=99) == {list, float, Aliased}
    assert Aliased in kinds_within({"a": inner, "b": {"c": {"d": inner}}}, depth_max=9, elements_max=99)
    with pytest.raises(TooLarge):
        kinds_within([inner, inner], depth_max=9, elements_max=3)
    with pytest.raises(RecursionError):
        kinds_within([[inner, inner]], depth_max=2, elements_max=99)


@pytest.mark.fault("H19")
def test_h19_a_few_bytes_that_stand_for_millions_of_elements_are_refused_at_once() -> None:
    lists: list[object] = [shared(0, [1] * 10)]
    lists += [shared(number, [alias(number - 1)] * 10) for number in range(1, 60)]
    with pytest.raises(CannotUnpack, match="skeleton_bytes_max"):
        unpack(skeleton(lists), options=OPTIONS)
    bomb: Any = [1] * 10
    for _ in range(60):
        bomb = [bomb] * 10
    with pytest.raises(TooLarge):
        pack(bomb, options=OPTIONS)


@pytest.mark.parametrize("root", [
    [alias(0)], [alias(0), shared(0, [])], shared(0, [alias(0)]), [shared(1, [])], [shared(0, []), shared(0, [])],
    [shared(0, 1)], [shared(0, "text")], [[msgpack.ExtType(Code.SHARED, msgpack.packb([0]))]],
    [[msgpack.ExtType(Code.SHARED, msgpack.packb([0])), [], []]], [[[], msgpack.ExtType(Code.SHARED, msgpack.packb([0]))]],
    [msgpack.ExtType(Code.SHARED, b"")], [msgpack.ExtType(Code.ALIAS, b"\x91\xc0")],
    [shared(0, [])] + [msgpack.ExtType(Code.ALIAS, msgpack.packb([-1]))]])
def test_marks_that_mean_nothing_are_refused(root: object) -> None:
    with pytest.raises(CannotUnpack):
        unpack(skeleton(root), options=OPTIONS)
