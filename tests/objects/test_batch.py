"""Batch: a dict with refs in it: what is selected of it keeps its place, and is pulled by the cell that unpacked it."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest

from zdl.errors import BadSelection, OptionError
from zdl.objects.batch import Batch
from zdl.objects.pack import pack
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Ref, Source

OPTIONS = PackOptions()
SOURCE = Source("site-1", bytes(16), bytes(16), 100_000)


class Told:
    """A holder that says what it was asked."""

    def pull(self, what: object, into: object, **how: Any) -> object:
        return what, into, how

    def release(self, refs: Any) -> None:
        self.released = refs

    heard = None


TOLD = Told()


def ref(number: int, *, holder: Told | None = TOLD) -> Ref:
    return Ref(SOURCE, number, number * 64, 64, "array", "<f4", (4, 4), holder=holder)


def through(body: object, holder: Told | None = TOLD) -> Any:
    return unpack(pack(body, options=OPTIONS).parts, options=OPTIONS, holder=holder)


MODEL = {"wte": ref(0), "h.0.w": ref(1), "h.0.b": ref(2), "h.10.w": ref(3), "lr": 0.1, "opt": {"h.0.w": {"m": ref(4), "t": 7}},
         "rest": [ref(5), 3, {"x": ref(6)}]}


def test_dicts_with_refs_at_any_depth_come_out_as_batches_and_others_as_dicts() -> None:
    body = through({"model": MODEL, "plain": {"a": [1, {"b": 2}]}, "deep": [[({"c": (ref(7),)}, {"d": 1})]], "n": np.zeros(3)})
    assert type(body) is type(body["model"]) is type(body["model"]["opt"]) is type(body["model"]["rest"][2]) is Batch
    assert type(body["deep"][0][0][0]) is Batch and type(body["deep"][0][0][1]) is type(body["plain"]["a"][1]) is dict
    assert type(body["plain"]) is dict and body["model"] == MODEL
    assert all(each.holder is TOLD for each in body.refs)
    assert type(through({"a": {"b": [1]}})) is dict


def test_a_batch_is_sent_on_as_any_dict() -> None:
    batch = through(MODEL)
    assert pack(batch, options=OPTIONS).parts == pack(MODEL, options=OPTIONS).parts
    assert through([batch, {"other": batch}]) == [MODEL, {"other": MODEL}]
    assert json.loads(json.dumps(Batch(a=1))) == {"a": 1}
    assert copy.deepcopy(batch) == batch


def test_what_is_selected_keeps_its_place() -> None:
    batch = Batch(MODEL)
    assert batch.select("h.0.*") == {"h.0.w": ref(1), "h.0.b": ref(2)}
    assert batch.select("h.*.w", "wte") == {"wte": ref(0), "h.0.w": ref(1), "h.10.w": ref(3)}
    assert batch.select("opt.*") == batch.select("opt") == {"opt": MODEL["opt"]}
    assert batch.select("*.m") == {"opt": {"h.0.w": {"m": ref(4)}}}
    assert batch.select("rest.[02]") == {"rest": [ref(5), {"x": ref(6)}]}
    assert batch.select("rest.2.x", "lr") == {"lr": 0.1, "rest": [{"x": ref(6)}]}
    assert batch.select("*") == MODEL and batch.select("h.?.w") == {"h.0.w": ref(1)}
    assert type(batch.select("*.m")) is type(batch.select("*.m")["opt"]) is Batch
    assert Batch({"t": (ref(0), ref(1)), 3: {"x": ref(2)}}).select("t.1", "3.x") == {"t": (ref(1),), 3: {"x": ref(2)}}


@pytest.mark.parametrize("patterns", [("h.3.*",), ("H.0.w",), ("",), ("a", "b"), ()])
def test_a_selection_of_nothing_says_so(patterns: tuple[str, ...]) -> None:
    with pytest.raises(BadSelection, match="nothing of it matches") as caught:
        Batch(MODEL).select(*patterns)
    assert all(repr(each) in str(caught.value) for each in patterns)


def test_it_knows_its_refs_and_their_bytes() -> None:
    batch = Batch({"a": ref(0), "b": [ref(0), ref(1)[:, :2]], "c": 1})
    assert batch.refs == [ref(0), ref(1)[:, :2]] and batch.nbytes == 64 + 32


def test_it_is_pulled_and_released_by_the_cell_that_unpacked_it() -> None:
    batch = Batch(MODEL).select("h.*")
    assert batch.pull({"x": 1}, timeout_s=2.0) == (batch, {"x": 1}, {"timeout_s": 2.0, "abort": None, "progress": None})
    batch.release()
    assert TOLD.released == batch.refs
    with pytest.raises(OptionError, match=r"cell\.downloads\.pull\(batch\)"):
        Batch({"a": ref(0, holder=None)}).pull()


def test_one_whose_arrays_were_all_small_is_used_alike() -> None:
    small = Batch({"h.0.w": np.ones(3), "h.1.w": np.zeros(3), "lr": 1}).select("h.0.*")
    assert type(small.pull()) is dict and small.pull()["h.0.w"] is small["h.0.w"]  # type: ignore[index]
    mine = {"h.0.w": np.zeros(3)}
    assert small.pull(mine) == mine and mine["h.0.w"].tolist() == [1, 1, 1]
    small.release()
