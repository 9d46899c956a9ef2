"""Ray: arrays are put into its object store by one process and got by another one of the same machine."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from zdl_bench import state
from zdl_bench.pulling import Pulling

NAMESPACE, NAME = "zdl_bench", "origin"
# Clusters of one machine that nobody else reaches; several at once do not know each other's tokens.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


class Holder:
    """The actor that has the state."""

    def __init__(self, load: dict[str, Any]) -> None:
        self._arrays = state.make(state.Load(**load))
        self._put: Any = None

    def checksum(self) -> int:
        """Of the state."""
        return state.checksum(self._arrays)

    def put(self, *, is_again: bool) -> list[Any]:
        """A reference to the state in the store, put there now or before."""
        import ray

        if self._put is None or is_again:
            self._put = ray.put(self._arrays)
        return [self._put]


class Origin:
    """A cluster of one machine, and an actor in it."""

    def __init__(self) -> None:
        self._actor: Any = None

    def start(self, *, load: dict[str, Any], scheme: str, folder: str) -> dict[str, Any]:
        """Starts all of it."""
        os.environ.update(ENVIRONMENT)
        import ray

        context = ray.init(num_cpus=2, namespace=NAMESPACE, include_dashboard=False, log_to_driver=False,
                           object_store_memory=4 * load["size_bytes"] + (256 << 20))
        self._actor = ray.remote(Holder).options(name=NAME, num_cpus=0).remote(load)
        return {"address": context.address_info["gcs_address"], "checksum": ray.get(self._actor.checksum.remote())}

    def stop(self) -> None:
        """Ends the cluster."""
        import ray

        ray.shutdown()


class Leaf(Pulling):
    """A driver that joins the cluster."""

    def __init__(self) -> None:
        super().__init__()
        self._actor: Any = None
        self._is_put_each_time = True
        self._is_copied = False

    def start(self, *, address: str, is_put_each_time: bool, is_copied: bool) -> None:
        """Connects.

        Args:
            address: of the cluster.
            is_put_each_time: whether the origin puts the state for each pull, or has done so before.
            is_copied: whether arrays are copied out of the store; otherwise they are views of it that cannot be written to.
        """
        os.environ.update(ENVIRONMENT)
        import ray

        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False)
        self._actor = ray.get_actor(NAME)
        self._is_put_each_time, self._is_copied = is_put_each_time, is_copied
        ray.get(ray.get(self._actor.put.remote(is_again=False))[0])

    def arrived(self) -> state.State:
        """A reference, and what is behind it."""
        import ray

        found: state.State = ray.get(ray.get(self._actor.put.remote(is_again=self._is_put_each_time))[0])
        return {name: np.array(array) for name, array in found.items()} if self._is_copied else found

    def stop(self) -> None:
        """Leaves."""
        import ray

        ray.shutdown()
