"""Others that move arrays: those that are installed bring the right bytes, those that are not are named."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

import zdl_bench.against
from zdl_bench.against import PEERS, RECIPES, AgainstQuestion, installed, measure
from zdl_bench.rounds import Rounds

ONCE = Rounds(1, warm_ups=0)


def test_what_is_not_installed_is_named_and_the_others_are_measured() -> None:
    lines: list[str] = []
    absent = [peer for peer in PEERS if not installed(peer)]
    found = measure(AgainstQuestion(peers=tuple(absent), systems=("raw_tcp",), size_bytes=1 << 20, rounds=ONCE), told=lines.append)
    assert [each.system for each in found] == ["raw_tcp"]
    assert found[0].options["absent"] == absent
    assert all(any(line.startswith(f"{peer} is not installed") for line in lines) for peer in absent)


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_is_installed_brings_what_was_lent(peer: str) -> None:
    if not installed(peer):
        pytest.skip(f"{peer} is not installed")
    found = measure(AgainstQuestion(peers=(peer,), systems=("raw_tcp",), size_bytes=1 << 20, rounds=ONCE))
    assert [each.system for each in found] == ["raw_tcp", *(recipe.name for recipe in RECIPES[peer][1])]
    assert all(each.options["version"] == installed(peer) for each in found[1:])


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_is_there_without_its_package_which_only_a_role_imports(peer: str) -> None:
    for recipe in RECIPES[peer][1]:
        spec = find_spec(recipe.module)
        assert spec is not None and spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text())
        names = {getattr(node, "module", None) or node.names[0].name for node in tree.body
                 if isinstance(node, (ast.Import, ast.ImportFrom))}
        assert names.isdisjoint({"grpc", "zenoh", "dask", "distributed", "torch", "ray", "nvflare"})


@pytest.mark.parametrize("wrong", [{"peers": ("zmq",)}, {"mix": ("single",)}, {"systems": ("dask",)}])
def test_whom_nobody_knows_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be one of"):
        zdl_bench.against.AgainstQuestion(**wrong)
