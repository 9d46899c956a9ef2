"""All questions by name, none of which is imported before it is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType

from zdl_bench.question import Bench


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a question is, and what it asks.

    Attributes:
        place: ``module`` of this package, or ``module:name`` where it holds more than one `Bench`.
        help: for ``zdl bench --help``.
    """

    place: str
    help: str

    def load(self) -> Bench:
        """Imports the module."""
        module, _, name = self.place.partition(":")
        found = getattr(import_module(f"zdl_bench.{module}"), name or "BENCH")
        assert isinstance(found, Bench)
        return found


# In the order of ``zdl bench --help`` and of the tables.
ENTRIES: Mapping[str, Entry] = MappingProxyType({
    "rtt": Entry("rtt", "How long a request of 64 bytes takes."),
    "rpc": Entry("rtt:RPC", "How many requests of 64 bytes are answered per second, by futures and by threads."),
    "pull": Entry("pull", "How fast a leaf gets arrays from an origin, and what that costs both."),
    "many": Entry("pull:MANY", "How long 5,000 arrays of 4 KiB take."),
    "fanout": Entry("pull:FANOUT", "How fast several leaves pull the same arrays at once."),
    "hops": Entry("hops", "What relays cost between a leaf and its origin, in both ways of passing on."),
    "mixed": Entry("mixed", "How long small requests take while a pull saturates the link."),
    "memory": Entry("memory", "How far leaf, origin and relay grow, beside what they may."),
    "local": Entry("local", "How fast arrays come on one machine: sent, copied out of shared memory, and used in it."),
    "against": Entry("against", "How fast NVFlare, gRPC, zenoh, Dask, torch RPC and Ray move the same arrays, if installed."),
    "relay": Entry("relay", "What a cell on the way costs a message of 64 bytes, and how many it passes on per second."),
    "file": Entry("file", "How fast a file comes to a disk, within a limit of memory."),
    "items": Entry("items", "What items cost that a user's code produces while they are pulled."),
    "transactions": Entry("transactions", "What many open transactions cost, and how soon a pull begins and an end is known."),
    "pack": Entry("pack", "What a message costs that lends a state dict of many leaves."),
    "slices": Entry("slices", "What an eighth of an array costs, rows or columns, beside an array of that size."),
    "stream": Entry("stream", "How fast is what is pushed, and what a slow receiver does to others."),
    "fleet": Entry("fleet", "How many cells one server bears, and how soon they are back when it was killed."),
    "death": Entry("death", "How soon a dead peer is known."),
})
