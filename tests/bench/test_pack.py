"""The question of packing: its baselines are there, and what they pack is what they unpack."""

from __future__ import annotations

import numpy as np
import pytest

from zdl.objects.externalize import find_refs
from zdl_bench.pack import CEILINGS, RECIPES, PackQuestion, here
from zdl_bench.rounds import Rounds


def test_both_cases_have_a_figure_of_each_system_beside_its_ceilings() -> None:
    found = here(PackQuestion(50, Rounds(2, 0)))
    assert [(result.case, result.system) for result in found] == [
        (f"{kind} 50 leaves", name) for kind in ("pack", "unpack") for name in ("zdl", *CEILINGS)]
    assert set(found[0].ratio) == set(CEILINGS) and all(result.median > 0 for result in found)


def test_a_leaf_by_reference_takes_at_most_64_bytes_beside_its_name() -> None:
    (zdl, *_) = here(PackQuestion(2000, Rounds(1, 0)))
    assert 0 < zdl.extra["leaf_wire_bytes"] <= 64


def test_what_is_packed_can_be_unpacked() -> None:
    state = {f"w{number}": np.arange(number + 2.0) for number in range(3)}
    found = {name: recipe.unpack(*recipe.pack(state)) for name, recipe in RECIPES.items()}
    assert [ref.shape for ref in find_refs(found["zdl"])] == [(2,), (3,), (4,)]
    assert found["msgpack"] == {name: ("<f8", array.shape) for name, array in state.items()}
    unpickled = found["pickle5"]
    assert isinstance(unpickled, dict) and all(np.array_equal(unpickled[name], state[name]) for name in state)


def test_no_leaves_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PackQuestion(0)
