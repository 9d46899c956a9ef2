"""Making alone: when an answer is full, and what becomes of what a user's code does wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from zdl.download.downloadable import Downloadable, Produced, ProduceRC, State
from zdl.download.making import PIECES_MAX, Answer, Maker
from zdl.download.pieces import pieces_of
from zdl.errors import Busy, Closed
from zdl.objects.manifest import Manifest
from zdl.objects.pack import Lent
from zdl.objects.unpack import unpack
from zdl.options import PackOptions
from zdl.refs import Source

PACKING = PackOptions()


class Given(Downloadable):
    """Pieces as they are given; then the end."""

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        made = self.base_obj[at] if at < len(self.base_obj) else (ProduceRC.EOF, None, {})
        return made  # type: ignore[no-any-return]


def good(data: Any, number: int) -> Produced:
    return ProduceRC.OK, data, {"at": number + 1}


def made(pieces: Sequence[Any], bytes_max: int = 100, pieces_max: int = PIECES_MAX, is_over: bool = False,
         lend: Callable[..., Any] | None = None) -> Answer:
    def no_lend(manifest: Manifest, lent: Sequence[Lent]) -> Any:
        raise AssertionError("nothing is large")

    maker = Maker(Given(list(pieces)), packing=PACKING, bytes_max=bytes_max, lend=lend or no_lend)
    return maker.make("site-1", {}, pieces_max, lambda: is_over)


def data_of(answer: Answer) -> list[Any]:
    return [(code, data) for code, data, _ in pieces_of(unpack(list(answer.frames), options=PACKING), "server")]


def test_an_answer_is_full_by_bytes_by_number_or_when_nobody_wants_more() -> None:
    pieces = [good(b"x" * 40, number) for number in range(1000)]
    assert len(data_of(made(pieces))) == 3
    assert len(data_of(made(pieces, pieces_max=2))) == 2
    assert len(data_of(made(pieces, is_over=True))) == 1
    assert len(data_of(made(pieces, bytes_max=1 << 20))) <= PIECES_MAX
    answer = made(pieces)
    assert (answer.nbytes, answer.after, answer.is_last, answer.is_good) == (120, {"at": 3}, False, True)
    assert answer.states == ({"at": 1}, {"at": 2}, {"at": 3})
    last = made(pieces[:2])
    assert data_of(last)[-1] == ("eof", None) and last.is_last and last.is_good


@pytest.mark.parametrize(("bad", "reason"), [
    (None, "TypeError: produce must return a code, data and a state, not NoneType"),
    (("ok", 1), "TypeError: produce must return"),
    (("fine", 1, {}), "ValueError: produce returned the code 'fine'"),
    (("ok", 1, None), "TypeError: produce must return a dict as its state, not NoneType"),
    (("error", "no such layer", {}), "no such layer"),
    (("error", None, None), "it said so"),
])
def test_what_a_producer_does_wrong_comes_after_what_was_good(bad: Any, reason: str) -> None:
    answer = made([good(0, 0), bad])
    (first, (code, text)) = data_of(answer)
    assert first == ("ok", 0) and code == "error" and reason in text
    assert answer.is_last and not answer.is_good


def test_data_that_cannot_travel_is_named() -> None:
    answer = made([good({"weights": object()}, 0)])
    ((code, text),) = data_of(answer)
    assert code == "error" and "weights" in text and "object" in text


def test_large_leaves_are_lent_together_and_end_with_the_answer() -> None:
    ended: list[bool] = []
    seen: list[int] = []

    def lend(manifest: Manifest, lent: Sequence[Lent]) -> Any:
        seen.append(len(lent))
        return Source("server", b"o" * 16, b"s" * 16, manifest.bytes_total), lambda: ended.append(True)

    answer = made([good(b"x" * (1 << 20), 0), good(b"y" * (1 << 20), 1)], bytes_max=2 << 20, lend=lend)
    assert (seen, answer.lent, ended) == ([2], b"o" * 16, [])
    assert answer.end is not None
    answer.end()
    assert ended == [True]


@pytest.mark.parametrize(("error", "is_told"), [(Busy(limit="offers_max", value=1, at="server"), True), (Closed("server"), False)])
def test_what_cannot_be_lent_is_told_unless_the_cell_is_closed(error: Exception, is_told: bool) -> None:
    def lend(manifest: Manifest, lent: Sequence[Lent]) -> Any:
        raise error

    pieces = [good(b"x" * (2 << 20), 0)]
    if is_told:
        ((code, text),) = data_of(made(pieces, bytes_max=1, lend=lend))
        assert code == "error" and "offers_max" in text
    else:
        with pytest.raises(Closed):
            made(pieces, bytes_max=1, lend=lend)


def test_equal_states_have_equal_keys_and_there_is_an_answer_after_the_last() -> None:
    maker = Maker(Given([]), packing=PACKING, bytes_max=1, lend=lambda manifest, lent: (_ for _ in ()).throw(AssertionError()))
    assert maker.key_of({"start": 1, "count": 2}) == maker.key_of({"start": 1, "count": 2}) != maker.key_of({"start": 3})
    assert data_of(maker.nothing()) == [] and maker.nothing().is_last
