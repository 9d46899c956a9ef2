"""A CacheableObject for several leaves: each item is produced once, and dropped when the last of them has it.

Three leaves pull the layers of a model at the same time. Producing a layer is what costs, so it is done once.

Prints::

    24 productions for 3 leaves: finished
    leaf-1: 24 layers, the last is all 23
    leaf-2: 24 layers, the last is all 23
    leaf-3: 24 layers, the last is all 23
    kept: 0 bytes
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from zdl import CacheableObject, Cell, ItemConsumer

LAYERS = 24
LAYER_FLOATS = 250_000
LEAVES = ("leaf-1", "leaf-2", "leaf-3")


class Layers(CacheableObject):
    """The layers of a model, made one by one."""

    def __init__(self, count: int) -> None:
        super().__init__(count, max_chunk_size=4 << 20)
        self.produced = 0

    def get_item_count(self) -> int:
        """How many layers."""
        return int(self.base_obj)

    def produce_item(self, index: int) -> Any:
        """One layer; here is where quantizing, compressing or reading from a disk would be."""
        self.produced += 1
        return np.full(LAYER_FLOATS, index, np.float32)


class Model(ItemConsumer):
    """Keeps the layers."""

    def consume_items(self, items: list[Any], result: Any) -> Any:
        """Some more of them."""
        return (result or []) + items


def pull(cell: Cell, ref: Any, models: dict[str, Any]) -> None:
    """Get all layers."""
    models[cell.fqcn] = cell.downloads.pull(ref, consumer=Model()).result


with Cell("server", listen="tcp://127.0.0.1:0") as server:
    leaves = [Cell(name, parent=server.addresses[0]) for name in LEAVES]
    for leaf in leaves:
        leaf.start()
        leaf.wait_ready()
    layers = Layers(LAYERS)
    lent = server.downloads.lend(layers, receivers=LEAVES)
    models: dict[str, Any] = {}
    threads = [threading.Thread(target=pull, args=(leaf, lent.body, models)) for leaf in leaves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{layers.produced} productions for {len(LEAVES)} leaves: {lent.wait(10).outcome.value}")
    for name in LEAVES:
        print(f"{name}: {len(models[name])} layers, the last is all {models[name][-1][0]:.0f}")
    print(f"kept: {layers.cached_bytes} bytes")
    for leaf in leaves:
        leaf.close()
