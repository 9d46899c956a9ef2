"""How fast do others move the same arrays?

The question ``pull`` for other projects that are installed (``pip install 'zdl[bench]'``), each as it comes and in the best
setting that could be found, beside zdl and the baselines. What is set is in `RECIPES`, and printed with the results, together
with the versions; what is not installed is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from zdl_bench.pull import MIB, SYSTEMS as OWN, PullQuestion, recipe
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Result
from zdl_bench.rounds import Case, Rounds, measure as measured
from zdl_bench.sizes import written
from zdl_bench.state import Load
from zdl_bench.systems import PullSystem, Recipe, refuse_unknown

CEILINGS = ("zdl_quick", "raw_tcp", "bare_pyzmq")
MIXES = ("mixed", "equal")
_NVFLARE_BEST = {"environment": {"NVFLARE_NP_DOWNLOAD_CHUNK_SIZE": str(64 * MIB), "NVFLARE_STREAMING_CHUNK_SIZE": str(4 * MIB)}}
_DASK_BEST = {"settings": {"distributed.comm.shard": "1GiB", "distributed.comm.compression": False}}
_TORCH_BEST = {"environment": {"THP_MEM_ALLOC_ENABLE": "1"}}
# The package, and how its systems are made.
RECIPES: Mapping[str, tuple[str, tuple[Recipe, ...]]] = MappingProxyType({
    "nvflare": ("nvflare", (
        Recipe("nvflare", "zdl_bench.peers.nvflare_cell", {}),
        Recipe("nvflare_best", "zdl_bench.peers.nvflare_cell", _NVFLARE_BEST, _NVFLARE_BEST))),
    "grpc": ("grpcio", (
        Recipe("grpc", "zdl_bench.peers.grpc_stream", {}),
        Recipe("grpc_best", "zdl_bench.peers.grpc_stream", {"piece_bytes": MIB}))),
    "zenoh": ("eclipse-zenoh", (
        Recipe("zenoh", "zdl_bench.peers.zenoh_query", {}),
        Recipe("zenoh_shared", "zdl_bench.peers.zenoh_query", {"is_shared": True}, {"is_shared": True}))),
    "dask": ("distributed", (
        Recipe("dask", "zdl_bench.peers.dask_comm", {}),
        Recipe("dask_best", "zdl_bench.peers.dask_comm", _DASK_BEST, _DASK_BEST))),
    "torch": ("torch", (
        Recipe("torch_rpc", "zdl_bench.peers.torch_rpc", {}),
        Recipe("torch_rpc_best", "zdl_bench.peers.torch_rpc", _TORCH_BEST, _TORCH_BEST))),
    "ray": ("ray", (
        Recipe("ray", "zdl_bench.peers.ray_store", {"is_put_each_time": True, "is_copied": True}),
        Recipe("ray_put_before", "zdl_bench.peers.ray_store", {"is_put_each_time": False, "is_copied": True}),
        Recipe("ray_mapped", "zdl_bench.peers.ray_store", {"is_put_each_time": False, "is_copied": False}))),
})
PEERS = tuple(RECIPES)


@dataclass(frozen=True, slots=True)
class AgainstQuestion:
    """What to measure.

    Attributes:
        peers: of `PEERS`.
        systems: of the question ``pull``.
        mix: ``mixed`` or ``equal``; one case each.
        size_bytes: of the mixed arrays together.
        rounds: how often.
    """

    peers: tuple[str, ...] = PEERS
    systems: tuple[str, ...] = ("zdl_quick", "raw_tcp", "bare_pyzmq")
    mix: tuple[str, ...] = ("mixed",)
    size_bytes: int = 512 * MIB
    rounds: Rounds = Rounds(5, warm_ups=1)

    def __post_init__(self) -> None:
        refuse_unknown(peer=(self.peers, PEERS), system=(self.systems, OWN), mix=(self.mix, MIXES))


def installed(peer: str) -> str:
    """Its version; empty if it is not there."""
    try:
        return version(RECIPES[peer][0])
    except PackageNotFoundError:
        return ""


def measure(question: AgainstQuestion = AgainstQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures all that are installed.

    Raises:
        PeerFailed: a measured process failed.
        ValueError: wrong bytes came.
    """
    versions = {peer: installed(peer) for peer in question.peers}
    absent = [peer for peer, found in versions.items() if not found]
    for peer in absent:
        told(f"{peer} is not installed: {RECIPES[peer][0]}")
    recipes = {each.name: (peer, each) for peer in question.peers if versions[peer] for each in RECIPES[peer][1]}
    for name, (peer, each) in recipes.items():
        told(f"{name}: {RECIPES[peer][0]} {versions[peer]} {_settings(each)}")
    results: list[Result] = []
    for kind in question.mix:
        asked = PullQuestion(mix=(kind,), size_bytes=question.size_bytes)
        if kind == "equal":
            load = Load(kind, asked.items * asked.item_bytes, items=asked.items)
            case = Case("against", f"{asked.items}x{written(asked.item_bytes)} tcp", "ms", "lower", CEILINGS)
        else:
            load = Load(kind, question.size_bytes)
            case = Case("against", f"{written(question.size_bytes)}-mixed tcp", "GiB/s", "higher", CEILINGS)
        made = [*(recipe(name, asked) for name in question.systems), *(each for _, each in recipes.values())]
        systems = [PullSystem(each, load=load, in_ms=kind == "equal") for each in made]
        for result in measured(case, systems, question.rounds, told=told):
            peer, mine = recipes.get(result.system, ("", None))
            facts: dict[str, Any] = {"absent": absent}
            if mine is not None:
                facts |= {"package": RECIPES[peer][0], "version": versions[peer], "settings": _settings(mine)}
            results.append(replace(result, options=facts))
    return results


def _settings(made: Recipe) -> dict[str, Any]:
    return {"leaf": dict(made.settings), "origin": dict(made.origin_settings)}


BENCH = Bench(AgainstQuestion, measure, (
    Flag("peers", "peers", "Whom to measure, if they are installed.", PEERS),
    Flag("systems", "systems", "Who stands beside them.", OWN),
    Flag("mix", "mix", "Which arrays.", MIXES),
    Flag("size", "size_bytes", "Of the mixed arrays together.")))
