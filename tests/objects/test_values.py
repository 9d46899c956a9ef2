"""Values of registered types: lowered before packing, built after unpacking, where they wait for what is lent."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from zdl.errors import CannotPack, CannotUnpack, ObjectError, OptionError
from zdl.objects.arrays import restore
from zdl.objects.externalize import contains_refs, find_refs, replace_refs
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent, pack
from zdl.objects.typetable import Code, TypeTable
from zdl.objects.unpack import unpack
from zdl.objects.values import Lending, Unbuilt, built, lowered
from zdl.options import PackOptions
from zdl.refs import Ref, Source

OPTIONS = PackOptions()
TINY = PackOptions(inline_bytes_max=4, beside_bytes_max=16, beside_sum_bytes_max=64)


@dataclass(frozen=True)
class Point:
    x: int
    y: object = None


@dataclass
class Model:
    name: str
    weights: Any
    parts: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        if isinstance(self.weights, Ref):
            raise TypeError("a model is made of arrays")


class Pair(NamedTuple):
    left: object
    right: object


class Colour(enum.Enum):
    RED = "r"


class Tokens:
    """A class of a user's, which is flat inside."""

    def __init__(self, ids: NDArray[Any]) -> None:
        self.ids = ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokens) and bool(np.array_equal(self.ids, other.ids))


TYPES = TypeTable().with_types(Point, Model, Pair, Colour).with_type(
    Tokens, name="tokens", to_plain=lambda tokens: tokens.ids, from_plain=Tokens, is_lent=True)


class Lender:
    """Lends to nobody, and remembers what it was asked."""

    def __init__(self) -> None:
        self.lent: Sequence[Lent] = ()

    def __call__(self, manifest: Manifest, lent: Sequence[Lent]) -> Source:
        self.lent = lent
        return Source(origin="site-1.w", offer_id=b"i" * 16, secret=b"s" * 16, bytes_total=manifest.bytes_total)

    def values(self, obj: object) -> dict[Ref, object]:
        """What the refs of an object stand for."""
        raws = {ref: bytes(self.lent[ref.item].buffer) for ref in find_refs(obj)}
        return {ref: restore(ref.dtype, ref.shape, raw, copy=True) if ref.kind == "array" else raw for ref, raw in raws.items()}


def there_and_back(obj: object, options: PackOptions = OPTIONS) -> Any:
    """The object that a receiver gets."""
    return unpack(pack(obj, options=options, types=TYPES).parts, options=options, types=TYPES)


@pytest.mark.parametrize("obj", [
    Point(1), [Point(1), Point(2)], {"a": (Point(1, Colour.RED), Pair(1, [Pair(2, None)]))}, {Point(1): {Point(2): Colour.RED}},
    {Point(1), Colour.RED}, frozenset((Pair(1, 2),)), deque([Point(1)], 3), Point(1, Point(2, Point(3, {4}))),
    {Pair(1, Colour.RED)},
    [(Colour.RED,), ({"k": Colour.RED},)],
])
def test_values_come_back_wherever_they_stand(obj: object) -> None:
    found = there_and_back(obj)
    assert type(found) is type(obj) and found == obj


def test_the_caller_s_containers_are_not_touched() -> None:
    point, inner = Point(1), [1]
    obj = {"a": [point, inner], "b": inner, Pair(1, 2): {point}}
    there_and_back(obj)
    assert obj == {"a": [Point(1), [1]], "b": [1], Pair(1, 2): {Point(1)}} and obj["a"][0] is point


def test_on_the_wire_a_value_is_a_name_and_its_plain_form() -> None:
    root = msgpack.unpackb(pack([Point(1), Colour.RED], options=OPTIONS, types=TYPES).parts[0])[1]
    assert root == [[msgpack.ExtType(Code.VALUE, b"Point"), {"x": 1, "y": None}], [msgpack.ExtType(Code.VALUE, b"Colour"), "RED"]]


# --- lent ---------------------------------------------------------------------------------------


def test_a_value_with_refs_is_built_when_they_are_resolved() -> None:
    lender = Lender()
    model = Model("m", np.arange(100.0), [Model("inner", np.arange(50.0)), Point(1)])
    found: Any = unpack(pack([model, "x"], options=TINY, types=TYPES, lend=lender).parts, options=TINY, types=TYPES)
    assert isinstance(found[0], Unbuilt) and found[0].name == "Model" and contains_refs(found)
    assert repr(found[0]) == "<Unbuilt Model>" and len(found[0]) == 1
    assert isinstance(found[0].plain["parts"][0], Unbuilt) and found[0].plain["parts"][1] == Point(1)
    again = pack(found, options=TINY, types=TYPES)
    resolved: Any = replace_refs(unpack(again.parts, options=TINY, types=TYPES), lender.values(found))
    assert isinstance(resolved[0], Model) and resolved[0].parts[0].name == "inner" and resolved[0].parts[1] == Point(1)
    assert np.array_equal(resolved[0].weights, model.weights) and np.array_equal(resolved[0].parts[0].weights, np.arange(50.0))


def test_a_value_that_is_passed_on_is_the_same_bytes() -> None:
    packed = pack({"m": Model("m", np.arange(100.0))}, options=TINY, types=TYPES, lend=Lender())
    assert pack(unpack(packed.parts, options=TINY, types=TYPES), options=TINY, types=TYPES).parts == packed.parts


@pytest.mark.row("B4")
def test_a_lent_type_goes_by_reference_whatever_its_size() -> None:
    lender = Lender()
    tokens = Tokens(np.array([1], "<i2"))
    packed = pack({"a": tokens, "b": np.zeros(1)}, options=OPTIONS, types=TYPES, lend=lender)
    found: Any = unpack(packed.parts, options=OPTIONS, types=TYPES)
    assert isinstance(found["a"], Unbuilt) and isinstance(found["a"].plain, Ref) and isinstance(found["b"], np.ndarray)
    assert lender.lent[0].leaf is tokens.ids
    assert replace_refs(found, lender.values(found)) == {"a": tokens, "b": np.zeros(1)}


def test_a_lent_type_travels_inside_where_nothing_is_lent_and_where_it_has_no_bytes() -> None:
    assert there_and_back(Tokens(np.arange(3))) == Tokens(np.arange(3))
    empty = Tokens(np.zeros(0))
    assert unpack(pack(empty, options=OPTIONS, types=TYPES, lend=Lender()).parts, options=OPTIONS, types=TYPES) == empty


def test_all_that_a_lent_type_is_made_of_is_lent() -> None:
    table = TypeTable().with_types(Point).with_type(Model, to_plain=vars, from_plain=lambda plain: Model(**plain), is_lent=True)
    lender = Lender()
    parts = [(np.ones(1), bytearray(b"x")), deque([np.ones(2)]), Point(1, np.ones(3)), {"k": memoryview(b"yy")}, {1}]
    model = Model("m", b"raw", parts)
    pack(model, options=OPTIONS, types=table, lend=lender)
    assert [each.buffer.nbytes for each in lender.lent] == [3, 8, 1, 16, 24, 2]


def test_what_stands_in_values_of_a_lent_type_and_elsewhere_is_one_object_afterwards() -> None:
    class Held:
        def __init__(self, plain: Any) -> None:
            self.plain = plain

    table = TypeTable().with_type(Held, to_plain=lambda held: held.plain, from_plain=Held, is_lent=True)
    array, lender = np.arange(3), Lender()
    shared: dict[str, Any] = {"w": array}
    held = Held({"x": shared, "y": [shared]})
    sent = {"out": [shared, array, b"one"], "a": held, "b": [held, Held(shared), Held(b"one")]}
    waiting: Any = unpack(pack(sent, options=OPTIONS, types=table, lend=lender).parts, options=OPTIONS, types=table)
    assert len(lender.lent) == 2 and waiting["out"][2] == b"one", "equal bytes may be one object by chance"
    found: Any = replace_refs(waiting, lender.values(waiting))
    one = found["out"][0]
    assert one["w"].tolist() == [0, 1, 2] and one["w"] is found["out"][1]
    assert found["a"] is found["b"][0] and all(each is one for each in (
        found["a"].plain["x"], found["a"].plain["y"][0], found["b"][1].plain))
    assert sent["out"][0] is shared and shared["w"] is array, "the caller's own is as it was"


def test_a_value_waits_for_all_of_its_refs() -> None:
    lender = Lender()
    found = unpack(pack(Pair(np.zeros(10), b"x" * 30), options=TINY, types=TYPES, lend=lender).parts, options=TINY, types=TYPES)
    values = lender.values(found)
    first, second = values
    half: Any = replace_refs(found, {**values, second: second})
    assert isinstance(half, Unbuilt) and half.plain["right"] == second
    whole: Any = replace_refs(half, values)
    assert isinstance(whole, Pair) and whole.right == b"x" * 30


def test_a_value_does_not_wait_for_what_stays_a_ref() -> None:
    source = Source(origin="site-2", offer_id=b"f" * 16, secret=b"g" * 16, bytes_total=9)
    pair = Pair(Ref(source=source, item=0, offset=0, length=9, kind="file", name="a"), Ref(source, 1, 0, 0, "object"))
    assert there_and_back(pair) == pair


def test_a_value_with_refs_cannot_be_a_key() -> None:
    source = Source(origin="site-2", offer_id=b"f" * 16, secret=b"g" * 16, bytes_total=9)
    ref = Ref(source=source, item=0, offset=0, length=9, kind="bytes")
    for obj in ({Point(1, ref): 1}, {Point(1, ref)}):
        with pytest.raises(CannotUnpack, match="is a 'Point' with refs in it"):
            there_and_back(obj)


# --- failing ------------------------------------------------------------------------------------


def failing(value: object) -> object:
    raise KeyError("no")


@pytest.mark.row("B5")
@pytest.mark.parametrize(("obj", "text"), [
    ({"batch": [0, {"w": Point(1, {"deep": object()})}]}, "cannot pack batch[1].w.y.deep: a value of type object"),
    ([Tokens(np.array([None]))], "cannot pack [0]: its dtype is object"),
    ({"a": [Model("m", 1)]}, "cannot pack a[0]: the plain form of 'Model' cannot be had: KeyError: 'no'"),
    ({"a": {Point(1, object())}}, "cannot pack a: the element <Unbuilt>: a value of type object"),
])
def test_what_cannot_travel_inside_a_value_is_named(obj: object, text: str) -> None:
    table = TypeTable().with_type(Model, to_plain=failing, from_plain=failing)
    types = TypeTable(values={**TYPES.values, Model: table.values[Model]}, names=TYPES.names)
    with pytest.raises(CannotPack) as caught:
        pack(obj, options=OPTIONS, types=types, lend=Lender())
    assert str(caught.value).startswith(text)


def test_a_value_inside_itself_cannot_travel() -> None:
    model = Model("m", 1)
    model.parts.append({"again": model})
    with pytest.raises(CannotPack, match=r"cannot pack \[0\].parts\[0\].again: it contains itself"):
        pack([model], options=OPTIONS, types=TYPES)


def test_values_count_to_the_depth_on_both_sides_alike() -> None:
    obj: object = 1
    for _ in range(10):
        obj = Point(1, [obj])
    enough = PackOptions(depth_max=30)
    assert there_and_back(obj, enough) == obj
    with pytest.raises(CannotPack, match="nested deeper than depth_max=29"):
        there_and_back(obj, PackOptions(depth_max=29))
    with pytest.raises(CannotUnpack, match="depth_max=29"):
        unpack(pack(obj, options=enough, types=TYPES).parts, options=PackOptions(depth_max=29), types=TYPES)


def read(root: object) -> Any:
    """What a skeleton with this root is unpacked to."""
    return unpack((msgpack.packb([[], root]),), options=OPTIONS, types=TYPES)


def value(name: str, *plain: object) -> list[object]:
    """A value as the wire says it."""
    return [msgpack.ExtType(Code.VALUE, name.encode()), *plain]


@pytest.mark.row("B1")
def test_a_name_that_is_not_registered_is_refused_with_what_to_register() -> None:
    with pytest.raises(CannotUnpack) as caught:
        read([value("os.system", "ls")])
    assert "a value of type 'os.system' came, and no type of that name is registered here" in str(caught.value)
    assert "(Point, Model, Pair, Colour, tokens)" in str(caught.value)
    assert "types=TypeTable().with_type(…, name='os.system')" in str(caught.value)


@pytest.mark.fault("H19")
@pytest.mark.parametrize(("root", "text"), [
    ({"a": [value("Point", {"z": 1})]}, r"cannot unpack a\[0\]: no 'Point' can be built of it: ValueError: it has no field 'z'"),
    (value("Point"), "0 plain forms"), (value("Point", 1, 2), "2 plain forms"), (value("Point", 7), "came as a int"),
    (value("Colour", "BLUE"), "not a member"), (value("tokens", value("Colour", "X")), "not a member"),
    (value("é" * 500, 1), "came"),
    (msgpack.ExtType(Code.VALUE, b"Point"), "stands where no object can"),
    ([1, msgpack.ExtType(Code.VALUE, b"Point")], "no object"),
    (value("Point", msgpack.ExtType(Code.TUPLE, b"")), "no object"),
    (msgpack.ExtType(Code.VALUE, b"\xff"), "not a packed object"),
    (value("Point", msgpack.Timestamp(1)), "no object"), ([msgpack.ExtType(Code.SET, b""), 1, 1], "stands twice"),
    ([msgpack.ExtType(Code.SET, b""), value("Colour", "RED"), value("Colour", "RED")], "stands twice"),
    ([msgpack.ExtType(Code.SET, b""), value("Point", {"x": 1, "y": []})], "unhashable"),
    ([msgpack.ExtType(Code.SET, b""), []], "unhashable"), (msgpack.ExtType(Code.SET, b"x"), "unknown"),
    ([msgpack.ExtType(Code.DEQUE, msgpack.packb([1])), 1, 2], "at most 1 has 2"),
    (msgpack.ExtType(Code.DEQUE, b""), "not a packed"),
    ([msgpack.ExtType(Code.DEQUE, msgpack.packb([-1]))], "a deque of at most -1"),
    ([msgpack.ExtType(Code.DEQUE, msgpack.packb(["1"]))], "fields are not"),
])
def test_h19_a_value_that_lies_is_refused(root: object, text: str) -> None:
    with pytest.raises(CannotUnpack, match=text):
        read(root)


@pytest.mark.fault("H19")
def test_h19_elements_of_one_hash_are_refused_before_and_after_they_are_built() -> None:
    numbers = [(index << 64) * ((1 << 61) - 1) for index in range(1, 500)]
    bigs = [msgpack.ExtType(Code.BIGINT, number.to_bytes(24, "little", signed=True)) for number in numbers]
    with pytest.raises(CannotUnpack, match="have one hash"):
        read([msgpack.ExtType(Code.FROZENSET, b""), *bigs])

    class Same:
        def __init__(self, number: int) -> None:
            self.number = number

        def __hash__(self) -> int:
            return 1

    table = TypeTable().with_type(Same, to_plain=lambda same: same.number, from_plain=Same)
    same = [[msgpack.ExtType(Code.VALUE, b"Same"), number] for number in range(100)]
    with pytest.raises(CannotUnpack, match="have one hash"):
        unpack((msgpack.packb([[], [msgpack.ExtType(Code.SET, b""), *same]]),), options=OPTIONS, types=table)


def test_what_a_user_s_function_made_is_not_looked_into() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop

    class Loop(dict):  # type: ignore[type-arg]
        pass

    table = TypeTable().with_type(Loop, to_plain=lambda made: None, from_plain=lambda plain: loop)
    found: Any = unpack((msgpack.packb([[], [value("Loop", None)]]),), options=OPTIONS, types=table)
    assert found[0] is loop


def test_a_value_that_cannot_be_built_when_it_is_resolved_is_named() -> None:
    lender = Lender()
    table = TypeTable().with_type(Model, to_plain=vars, from_plain=failing)
    found = unpack(pack({"a": [Model("m", np.zeros(9))]}, options=TINY, types=table, lend=lender).parts, options=TINY, types=table)
    with pytest.raises(CannotUnpack, match=r"cannot unpack a\[0\]: no 'Model' can be built of it: KeyError: 'no'"):
        replace_refs(found, lender.values(found))
    with pytest.raises(ObjectError, match=r"a\[0\].weights: there is no value for <Ref"):
        replace_refs(found, {})


# --- the walks ----------------------------------------------------------------------------------


def test_lowering_makes_one_plain_form_of_one_value_and_leaves_the_rest() -> None:
    point, rest = Point(1), [1, {2}]
    fresh: Any = lowered([point, point, rest], TYPES.values)
    assert fresh[0] is fresh[1] and isinstance(fresh[0], Unbuilt) and fresh[2] is rest
    again: Any = lowered(fresh, TYPES.values)
    assert again is fresh


def test_the_leaves_of_a_lent_type_are_marked() -> None:
    fresh: Any = lowered(Tokens(np.zeros(1)), TYPES.values)
    assert isinstance(fresh.plain, Lending)


def test_building_changes_what_was_unpacked_in_place() -> None:
    kind = TYPES.names["Point"]
    inner: list[object] = [Unbuilt(kind, {"x": 1})]
    obj = {"a": inner}
    assert built(obj) is obj and obj["a"] is inner and inner == [Point(1)]


# --- the table ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "text"), [
    (lambda: TYPES.with_type(Point), "not in the table yet"), (lambda: TYPES.with_type(int), "travels as it is"),
    (lambda: TYPES.with_type(type("Other", (), {}), name="tokens", to_plain=str, from_plain=str), "not in the table yet"),
    (lambda: TYPES.with_type(type("Other", (), {})), "a dataclass, an enum or a named tuple"),
    (lambda: TypeTable().with_type(Tokens, to_plain=str), "both functions, or none"),
    (lambda: TypeTable().with_type(Point, name=""), "1 to 120 bytes"),
    (lambda: TypeTable().with_type(Point, name="a\nb"), "printable"),
    (lambda: TypeTable().with_type(Point, name="x" * 121), "1 to 120 bytes"),
])
def test_a_registration_that_cannot_work_is_refused(call: Any, text: str) -> None:
    with pytest.raises(OptionError, match=text):
        call()


@pytest.mark.row("B1")
def test_a_table_is_a_value_and_registering_makes_another_one() -> None:
    table = TypeTable()
    more = table.with_types(Point)
    assert (list(table.names), list(more.names), list(TypeTable().names)) == ([], ["Point"], [])
    assert repr(more) == "<TypeTable Point>" and repr(table) == "<TypeTable of nothing registered>"


def test_a_subclass_of_a_registered_class_is_another_class() -> None:
    with pytest.raises(CannotPack, match="a value of type .*Near cannot travel"):
        pack(type("Near", (Point,), {})(1), options=OPTIONS, types=TYPES)
