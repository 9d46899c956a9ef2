"""CacheableObject: a list of items that is lent, each item produced once for all receivers that want it.

Items are packed into pieces by a maximum size. The state of a piece says which items it holds, as the ancestor has it::

    {} ──▶ [items 0…6], {"start": 0, "count": 7} ──▶ [items 7…9], {"start": 7, "count": 3} ──▶ EOF

An item that was produced is kept until all receivers that are counted have consumed it, each counted by its name, and
within a bound of bytes and one item more. When that is reached, a receiver that is ahead waits a little for the slower ones to
make room; when they do not move, what is there stays, because it is what the slowest wants next, and every item that is not
kept is produced a second time for that one. Receivers that want an item while it is being produced wait for that one
production.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from zdl.cell.handlers import Raised, guarded
from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.sizes import bytes_of
from zdl.errors import LeaseEnded, OptionError

# A sixteenth of what a machine for such work has at least, 4 GiB; 16 answers of the size an origin makes at most.
CACHE_BYTES_MAX = 256 << 20
# How long a receiver that is ahead waits for room, and not again before there was some: a second production is dear, but one
# receiver that hangs must not hold up the others.
ROOM_WAIT_S = 1.0
# How many items beyond a piece `prefetch_item` is told of; the ancestor's number.
PREFETCH_ITEMS = 2


class CacheableObject(Downloadable):
    """A list of items that is lent.

    Threads: `produce_item` is called for different items at once, and for one item by one thread at a time.

    Args:
        obj: what is lent; kept as `base_obj`.
        max_chunk_size: bytes; items travel together while they have less than this. Any item travels: one that is larger,
            alone. 0: each alone.
        cache_bytes_max: bytes of produced items that are kept for receivers that come to them later.

    Raises:
        OptionError: a size below 0.
    """

    def __init__(self, obj: Any, max_chunk_size: int, *, cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        for name, value in (("max_chunk_size", max_chunk_size), ("cache_bytes_max", cache_bytes_max)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise OptionError(name=name, value=repr(value), allowed="a number of bytes, 0 or more")
        super().__init__(obj)
        self.max_chunk_size = max_chunk_size
        self.cache_bytes_max = cache_bytes_max
        self._label = "this object"
        self._changed = threading.Condition()  # guards all below
        self._count: int | None = None
        self._names: frozenset[str] = frozenset()
        self._receivers_count = 0
        self._kept: dict[int, tuple[Any, int]] = {}
        self._kept_bytes = 0
        self._spare: tuple[int, tuple[Any, int]] | None = None
        self._sizes: dict[int, int] = {}
        self._largest = 0
        self._consumed: dict[int, set[str]] = {}
        self._making: dict[int, Future[Any]] = {}
        self._positions: dict[str, int] = {}
        self._entered: Counter[int] = Counter()  # where the pieces begin that are being produced
        self._drops = 0
        self._waited_in_vain = -1
        self._clears = 0
        self._is_done = False
        self._is_released = False

    # --- what a user implements -----------------------------------------------------------------

    @abstractmethod
    def get_item_count(self) -> int:
        """How many items there are. Asked once."""

    @abstractmethod
    def produce_item(self, index: int) -> Any:
        """Make one item: bytes, or whatever may travel. It must not change afterwards."""

    def get_item_size(self, index: int) -> int | None:
        """Bytes of an item, where that is known without producing it; so none is produced to learn that it does not fit."""
        return None

    def prefetch_item(self, index: int) -> None:
        """This item will soon be wanted: a place to begin, without waiting. Nothing by default."""

    # --- the cache ------------------------------------------------------------------------------

    @property
    def cached_bytes(self) -> int:
        """Bytes of the items that are kept now."""
        return self._kept_bytes

    def clear_cache(self) -> None:
        """Forget what was produced. What is wanted again is produced again."""
        with self._changed:
            self._clears += 1
            self._kept = {}
            self._kept_bytes = 0
            self._spare = None
            self._changed.notify_all()

    def expect_receivers(self, names: Iterable[str], count: int) -> None:
        """For the broker: who is counted, by name, or so many different ones; 0 and no names: nobody knows."""
        with self._changed:
            self._names = frozenset(names)
            self._receivers_count = count

    def consumed(self, state: State, receiver: str) -> None:
        """For the broker: this receiver has consumed the piece that came with this state."""
        with suppress(OptionError, TypeError):  # who lies about what it has loses nothing but the cache
            start, count = self._range(state)
            with self._changed:
                self._positions[receiver] = max(self._positions.get(receiver, 0), start + count)
                for index in range(start, start + count):
                    self._consumed.setdefault(index, set()).add(receiver)
                    if self._is_consumed(index):
                        self._drop(index)
                self._changed.notify_all()  # another one may be the slowest now

    def without(self, receiver: str) -> None:
        """For the broker: this receiver will want nothing more; nothing is kept for it."""
        with self._changed:
            if receiver in self._names:
                self._names -= {receiver}
            elif self._receivers_count > 1:
                self._receivers_count -= 1
            for index in list(self._kept):
                if self._is_consumed(index):
                    self._drop(index)

    # --- the hooks ------------------------------------------------------------------------------

    def set_transaction(self, tx_id: str, ref_id: str) -> None:
        """Counts the items."""
        self._label = ref_id
        self._items_count()

    def produce(self, state: State, requester: str) -> Produced:
        """The next items, as many as fit.

        Raises:
            LeaseEnded: it was released.
            OptionError: the state is none of ours.
        """
        total = self._items_count()
        start, count = self._range(state)
        first = start + count
        if first >= total:
            return ProduceRC.EOF, None, {}
        self._wait_for_room(requester, first)
        try:
            items = self._items_of_piece(first, total)
        finally:
            self._leave(first)
        for index in range(first + len(items), min(first + len(items) + PREFETCH_ITEMS, total)):
            self.prefetch_item(index)
        return ProduceRC.OK, items, {"start": first, "count": len(items)}

    def downloaded_to_all(self) -> None:
        """Nothing is kept any more."""
        self.clear_cache()

    def transaction_done(self, transaction_id: str, status: str) -> None:
        """Nothing is kept from now on."""
        with self._changed:
            self._is_done = True
        self.clear_cache()

    def release(self) -> None:
        """Lets go of the object; twice is once."""
        with self._changed:
            self._is_released = self._is_done = True
            self._consumed = {}
        self.clear_cache()
        super().release()

    # --- inside ---------------------------------------------------------------------------------

    def _items_count(self) -> int:
        if self._count is None:
            self._check_held()
            self._count = int(self.get_item_count())
        return self._count

    def _range(self, state: State) -> tuple[int, int]:
        """Which items came with a state."""
        start, count, total = state.get("start", 0), state.get("count", 0), self._items_count()
        for name, value in (("start", start), ("count", count)):
            if type(value) is not int or not 0 <= value <= total:
                raise OptionError(name=f"state[{name!r}]", value=repr(value), allowed=f"0 to the {total} items there are")
        return start, min(count, total - start)

    def _items_of_piece(self, first: int, total: int) -> list[Any]:
        """Those of one piece: as many as fit, one at least."""
        items: list[Any] = []
        room = self.max_chunk_size
        for index in range(first, total):
            if items and self._is_known_not_to_fit(index, room):
                break
            item, nbytes = made = self._item(index)
            if items and nbytes >= room:
                self._spare = index, made  # it was produced to learn its size, and is wanted next
                break
            items.append(item)
            room -= nbytes
            if room <= 0:
                break
        return items

    def _is_known_not_to_fit(self, index: int, room: int) -> bool:
        known = self._sizes.get(index)
        if known is None:
            known = self.get_item_size(index)
        return known is not None and known >= room

    def _item(self, index: int) -> tuple[Any, int]:
        """An item and its bytes: kept, or produced by whoever comes first."""
        with self._changed:
            self._check_held()
            kept = self._kept.get(index)
            if kept is None and self._spare is not None and self._spare[0] == index:
                kept = self._spare[1]
            if kept is not None:
                return kept
            making = self._making.get(index)
            is_mine = making is None
            if making is None:
                making = self._making[index] = Future()
            clears = self._clears
        if not is_mine:
            return making.result()  # type: ignore[no-any-return]
        made = guarded(lambda: _measured(self.produce_item(index)))
        with self._changed:
            del self._making[index]
            if not isinstance(made, Raised):
                self._sizes[index] = made[1]
                self._largest = max(self._largest, made[1])
                if clears == self._clears:
                    self._keep(index, made)
        if isinstance(made, Raised):
            making.set_exception(made.error)
            raise made.error
        making.set_result(made)
        return made

    def _keep(self, index: int, made: tuple[Any, int]) -> None:
        """Under the lock."""
        is_wanted = not self._is_done and not self._is_consumed(index)
        if is_wanted and self._kept_bytes + made[1] <= self.cache_bytes_max:
            self._kept[index] = made
            self._kept_bytes += made[1]

    def _check_held(self) -> None:
        if self._is_released:
            raise LeaseEnded(ref=self._label, origin="this cell", how="released")

    def _is_consumed(self, index: int) -> bool:
        """Under the lock: whether all that are counted have it."""
        consumed: set[str] = self._consumed.get(index, set())
        if self._names or not self._receivers_count:
            return bool(self._names) and self._names <= consumed
        return len(consumed) >= self._receivers_count

    def _drop(self, index: int) -> None:
        """Under the lock."""
        kept = self._kept.pop(index, None)
        if kept is not None:
            self._kept_bytes -= kept[1]
            self._drops += 1
            self._changed.notify_all()

    def _wait_for_room(self, receiver: str, first: int) -> None:
        """Let the slower ones catch up, where what is produced now could not be kept for them; `_leave` follows."""
        with self._changed:
            if self._waited_in_vain != self._drops:
                drops = self._drops
                is_free = self._changed.wait_for(lambda: self._may_go_on(receiver, first), ROOM_WAIT_S)
                if not is_free and self._drops == drops:
                    self._waited_in_vain = drops
            self._entered[first] += 1

    def _may_go_on(self, receiver: str, first: int) -> bool:
        """Under the lock: whether producing this piece takes no room from what others want."""
        is_there = first in self._kept or first in self._entered
        return self._is_done or is_there or self._has_room() or self._is_slowest(receiver)

    def _leave(self, first: int) -> None:
        """What was to be produced is kept, or will not be."""
        with self._changed:
            self._entered[first] -= 1
            if not self._entered[first]:
                del self._entered[first]
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """Under the lock: for one piece, as large as they come, besides those that are being produced."""
        largest = max(self._largest, self.max_chunk_size)
        wanted = self._kept_bytes + (len(self._entered) + 1) * largest
        return not self._kept and not self._entered or wanted <= self.cache_bytes_max

    def _is_slowest(self, receiver: str) -> bool:
        """Under the lock: whether nobody who is counted is behind this one."""
        mine = self._positions.get(receiver, 0)
        if self._names:
            return all(self._positions.get(name, -1) >= mine for name in self._names - {receiver})
        others = [at for name, at in self._positions.items() if name != receiver]
        return len(others) + 1 >= self._receivers_count and all(at >= mine for at in others)


def _measured(item: Any) -> tuple[Any, int]:
    return item, bytes_of(item)
