"""Guards: a receiver gets what was lent, or a named error; never a mixture."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import pytest

from zdl import Options, PackOptions, PullOptions
from zdl.assembly import Cell
from zdl.download.arrays import BLOCK_BYTES, Buffers
from zdl.download.guards import THREAD_BLOCKS_MIN, CheckedBuffers, FrozenBuffers, Notes, guarded, in_turns
from zdl.errors import OptionError, SourceChanged
from zdl.objects.manifest import ALONE_BYTES, Manifest, Range, cut
from zdl.objects.pack import Lent
from zdl.options import DIGESTS, GUARDS
from zdl.protocol.digests import digest_of
from zdl.protocol.messages import Verify

from trees import Trees
from waiting import eventually

SIZE = 2 * BLOCK_BYTES + 100
SECRET = bytes(range(16))


def lent_of(*leaves: object) -> tuple[Manifest, list[Lent]]:
    """Leaves as they come out of packing."""
    lent = [Lent(leaf, memoryview(leaf).cast("B")) for leaf in leaves]  # type: ignore[arg-type]
    return Manifest.of(each.buffer.nbytes for each in lent), lent


@pytest.mark.parametrize("guard", GUARDS)
def test_whatever_the_guard_the_bytes_are_those_that_were_lent(guard: str) -> None:
    array, text = np.arange(SIZE, dtype=np.uint8), b"bytes"
    manifest, lent = lent_of(array, text)
    readable = guarded(manifest, lent, PackOptions(guard=guard), "server", secret=SECRET)
    assert not readable.may_block
    whole = b"".join(bytes(part) for part in readable.read(0, manifest.bytes_total))
    assert whole[:SIZE] == array.tobytes() and whole.endswith(text)


@pytest.mark.parametrize(("changed", "offset", "length"), [
    (0, 0, 10), (BLOCK_BYTES, BLOCK_BYTES + 5, 1), (BLOCK_BYTES - 1, BLOCK_BYTES - 1, 2), (SIZE - 1, SIZE - 50, 50), (7, 0, SIZE)])
def test_a_change_is_found_wherever_the_block_is_read(changed: int, offset: int, length: int) -> None:
    array = np.zeros(SIZE, np.uint8)
    manifest, lent = lent_of(array)
    readable = CheckedBuffers(manifest, [each.buffer for each in lent], "server")
    array[changed] = 1
    with pytest.raises(SourceChanged, match="are not what was lent"):
        readable.read(offset, length)


@pytest.mark.parametrize(("changed", "offset", "length"), [
    (0, 0, 10), (BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES), (BLOCK_BYTES - 1, BLOCK_BYTES - 1, 2), (SIZE - 1, SIZE - 50, 50),
    (7, 0, SIZE)])
def test_a_change_is_found_when_the_block_is_copied(changed: int, offset: int, length: int) -> None:
    array = np.zeros(SIZE, np.uint8)
    manifest, lent = lent_of(array)
    readable = CheckedBuffers(manifest, [each.buffer for each in lent], "server")
    place = memoryview(bytearray(length))
    readable.copy_into(offset, place)
    array[changed] = 1
    with pytest.raises(SourceChanged, match="are not what was lent"):
        readable.copy_into(offset, place)


def test_what_is_compared_of_a_whole_block_is_the_copy_itself() -> None:
    """Whoever changes the array while it is copied, and back again, is found out too."""
    array = np.zeros(SIZE, np.uint8)
    manifest, lent = lent_of(array)

    class Hasty(CheckedBuffers):
        """Its array is another one for as long as it is copied."""

        def _compare(self, block: Range, parts: Sequence[bytes | memoryview]) -> None:
            array[5] = 0
            super()._compare(block, parts)

    readable = Hasty(manifest, [each.buffer for each in lent], "server")
    array[5] = 1
    with pytest.raises(SourceChanged):
        readable.copy_into(0, memoryview(bytearray(BLOCK_BYTES)))


def test_a_change_elsewhere_is_found_when_that_is_read() -> None:
    array = np.zeros(SIZE, np.uint8)
    manifest, lent = lent_of(array)
    readable = CheckedBuffers(manifest, [each.buffer for each in lent], "server")
    array[SIZE - 1] = 1
    assert len(b"".join(readable.read(0, BLOCK_BYTES))) == BLOCK_BYTES
    with pytest.raises(SourceChanged):
        readable.read(2 * BLOCK_BYTES, 1)


@pytest.mark.parametrize("verify", [Verify.XXH3, Verify.BLAKE3])
def test_the_digest_of_each_block_is_noted_as_a_receiver_of_all_asks_for_it(verify: Verify) -> None:
    """Small items that lie together are one run; a large one is a run of its own."""
    arrays = [np.arange(size, dtype=np.uint8) for size in (100, 7, ALONE_BYTES + 5, 3 * BLOCK_BYTES // 2, 9)]
    manifest, lent = lent_of(*arrays)
    readable = CheckedBuffers(manifest, [each.buffer for each in lent], "server", notes=Notes(verify, SECRET))
    asked = list(cut([(0, 135), (manifest.offsets[2], ALONE_BYTES + 5),
                      (manifest.offsets[3], manifest.bytes_total - manifest.offsets[3])], BLOCK_BYTES))
    for offset, length in asked:
        assert readable.noted(offset, length, verify) == digest_of(verify, SECRET, readable.as_is(offset, length))
    assert len(asked) == 1 + 5 + 2
    other = Verify.XXH3 if verify is Verify.BLAKE3 else Verify.BLAKE3
    assert readable.noted(*asked[0], other) is None and readable.noted(1, 99, verify) is None


def test_what_something_else_guards_is_not_looked_at() -> None:
    guarded_array, other = np.zeros(ALONE_BYTES, np.uint8), np.zeros(ALONE_BYTES, np.uint8)
    manifest, lent = lent_of(guarded_array, other)
    readable = CheckedBuffers(manifest, [each.buffer for each in lent], "server", unguarded={0})
    guarded_array[0] = other[0] = 1
    assert readable.noted(0, BLOCK_BYTES, Verify.XXH3) is None
    assert readable.read(0, 1) == [b"\x01"]
    with pytest.raises(SourceChanged):
        readable.read(ALONE_BYTES, 1)


@pytest.mark.parametrize("is_slow", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2 * THREAD_BLOCKS_MIN - 1, 5 * THREAD_BLOCKS_MIN + 3])
def test_whatever_threads_do_it_digests_come_in_the_order_of_their_blocks(count: int, is_slow: bool) -> None:
    blocks = [(number, 1) for number in range(count)]
    assert in_turns(lambda block: str(block[0]).encode(), blocks, is_slow=is_slow) == [b"%d" % number for number in range(count)]


def test_what_is_copied_may_be_changed_at_once() -> None:
    array = np.zeros(SIZE, np.uint8)
    manifest, lent = lent_of(array)
    readable = guarded(manifest, lent, PackOptions(guard="copy"), "server", secret=SECRET)
    array[:] = 1
    assert not any(b"".join(readable.read(0, SIZE)))


def test_a_frozen_array_is_read_only_until_it_is_let_go() -> None:
    array, constant = np.zeros(SIZE, np.uint8), np.zeros(10, np.uint8)
    constant.flags.writeable = False
    manifest, lent = lent_of(array, constant, b"text")
    readable = guarded(manifest, lent, PackOptions(guard="freeze"), "server", secret=SECRET)
    assert isinstance(readable, FrozenBuffers)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    del readable, lent
    gc.collect()
    array[0] = 1
    assert not constant.flags.writeable


def test_what_cannot_be_frozen_is_checked() -> None:
    memory = bytearray(SIZE)
    manifest, lent = lent_of(memory)
    readable = guarded(manifest, lent, PackOptions(guard="freeze"), "server", secret=SECRET)
    memory[5] = 1
    with pytest.raises(SourceChanged):
        readable.read(0, 10)


def test_an_array_that_is_frozen_twice_is_checked_after_the_first_has_ended() -> None:
    array = np.zeros(SIZE, np.uint8)
    first, second = (guarded(*lent_of(array), PackOptions(guard="freeze"), "server", secret=SECRET) for _ in range(2))
    assert isinstance(first, Buffers)
    del first
    gc.collect()
    array[0] = 1
    with pytest.raises(SourceChanged):
        second.read(0, 10)


@pytest.mark.parametrize("name", ["guard", "digest"])
def test_another_kind_is_refused_by_name(name: str) -> None:
    with pytest.raises(OptionError, match=name):
        PackOptions(**{name: "hope"})  # type: ignore[arg-type]


# --- between cells ------------------------------------------------------------------------------


class Two:
    """An origin with a guard, and a leaf."""

    def __init__(self, stack: ExitStack, address: str, guard: str, verify: str, digest: str = "xxh3") -> None:
        options = Options(packing=PackOptions(guard=guard, digest=digest))
        self.server = stack.enter_context(Cell("server", listen=address, options=options))
        self.leaf = stack.enter_context(Cell("leaf", parent=self.server.addresses[0],
                                             options=Options(pulls=PullOptions(verify=verify))))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("verify", ["auto", "none", "xxh3", "blake3"])
def test_an_array_that_is_changed_while_it_is_lent_ends_its_pulls_and_is_never_a_mixture(
        stack: ExitStack, trees: Trees, verify: str, digest: str) -> None:
    """Whoever looks: the origin at what it noted, or the receiver, who was told that."""
    two = Two(stack, trees.address("tcp"), "check", verify, digest)
    array = np.zeros(4 * SIZE, np.uint8)
    lent = two.server.downloads.lend({"w": array}, receivers=2)
    assert isinstance(lent.body, dict)
    array[3 * SIZE] = 1
    with pytest.raises(SourceChanged):
        two.leaf.downloads.pull(lent.body["w"])
    lent.delete()
    assert isinstance(two.leaf.request("server", "zdl", "ping").body, type(None)), "the cell lives on"


def test_a_frozen_array_may_be_written_again_when_the_transaction_has_ended(stack: ExitStack, trees: Trees) -> None:
    two = Two(stack, trees.address("tcp"), "freeze", "auto")
    array = np.zeros(SIZE, np.uint8)
    lent = two.server.downloads.lend({"w": array})
    assert isinstance(lent.body, dict) and not array.flags.writeable
    assert np.array_equal(two.leaf.downloads.pull(lent.body["w"]), array)  # type: ignore[arg-type]
    lent.wait(30.0)
    eventually(lambda: array.flags.writeable, what="a writable array")
