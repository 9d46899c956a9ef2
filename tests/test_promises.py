"""The table of promises is true: every row of downloads has its property and its test; and the properties can be broken.

Some hundred histories of pieces run here; ``cd tests; python -m simpieces --seeds 100000 --processes 2`` runs as many as you like.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path

import pytest
from promises import PROMISES, Promise
from simbooks import NEVER, Pull as PullBook, Transaction
from simcell import SimCell
from simdeaths import Deaths
from simpieces import PieceWorld, main, trouble
from simwatch import INTERVAL_S, Watch, must_follow

from zdl.download import production
from zdl.download.hooks import _Object
from zdl.observe.progress import ACTIVE, COMPLETED, START, TransferProgress, TransferProgressTracker
from zdl.options import PullOptions
from zdl.protocol.effects import Outcome, TransactionSettled
from zdl.protocol.fetching import Pull
from zdl.protocol.messages import Ask, Verify
from zdl.protocol.offers import Audience
from zdl.protocol.rerouting import Rerouting
from zdl.refs import Source

from sim import trouble as trouble_of

TESTS = Path(__file__).resolve().parent
BLOCK = 60


# --- the table ----------------------------------------------------------------------------------

def test_every_row_of_downloads_is_in_the_table_once() -> None:
    told = re.findall(r"^(D\d+) ", (TESTS.parent / "docs" / "parity.rst").read_text(encoding="utf-8"), re.MULTILINE)
    rows = [each.row for each in PROMISES]
    assert sorted(rows) == sorted({row for row in told if int(row[1:]) <= 25}) and len(rows) == 24


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.row)
def test_its_property_says_so_and_its_test_is_marked_with_it(promise: Promise) -> None:
    assert promise.properties
    for name in promise.properties:
        module, kind, method = name.split(".")
        text = getattr(getattr(importlib.import_module(module), kind), method).__doc__
        assert re.search(rf"\b{promise.row}\b", text or ""), f"{name} does not say that it is about {promise.row}"
    file, _, test = promise.test.partition("::")
    found = re.search(rf"((?:^@.*\n|^    .*\n)*)^def {test}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert found and f'"{promise.row}"' in found[1], f"{promise.test} is not marked with {promise.row}"


# --- histories of pieces ------------------------------------------------------------------------

@pytest.mark.parametrize("first", range(0, 240, BLOCK))
def test_every_promise_about_pieces_holds_in_these_histories(first: int) -> None:
    for seed in range(first, first + BLOCK):
        wrong = trouble(seed)
        assert not wrong, wrong


def test_one_seed_is_one_history_of_pieces() -> None:
    assert PieceWorld(3).run_all().story == PieceWorld(3).run_all().story != PieceWorld(4).run_all().story


def test_the_histories_of_pieces_are_not_empty() -> None:
    seen: Counter[str] = Counter()
    for seed in range(120):
        world = PieceWorld(seed).run_all()
        assert world.ended_as is not None
        seen.update([world.ended_as.value, *(name for name, _, _ in world.calls)])
        seen.update(each.value for each in world.outcomes.values())
        seen.update("dies" for life in world.lives if not life.is_alive)
        seen.update("raises" for _ in range(world.has_raised))
        seen.update("again" for life in world.lives if max(life.attempts.values(), default=0) > 1)
        seen.update("shared" for count in world.made_count.values() if count == 1 and len(world.names) > 1)
    for each in ("finished", "deleted", "expired", "closed", "lost", "failed", "downloaded_to_all", "dies", "raises", "again",
                 "shared"):
        assert seen[each] > 2, f"{each}: {seen[each]}"


def test_the_command_runs_seeds_of_pieces_and_tells_one_story(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "10", "--from", "500"]) == 0
    assert "10 passed, 0 failed" in capsys.readouterr().out
    assert main(["--story", "--from", "5"]) == 0
    assert "asks for answer 0" in capsys.readouterr().out


@pytest.mark.parametrize(("where", "name", "value", "expected"), [
    (production, "AHEAD", 0, "nobody prepares answer"), (production, "AHEAD", 3, "answers are made"),
    (_Object, "telling", lambda self, receiver, status: [
        ("downloaded_to_one", lambda: self.production.downloadable.downloaded_to_one(receiver, status))], "told twice")])
def test_an_origin_that_breaks_a_promise_about_pieces_is_found_out(
        where: object, name: str, value: object, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, name, value)
    assert any(expected in trouble(seed) for seed in range(20))


# --- what is watched ----------------------------------------------------------------------------

class Still:
    """A world whose time is set by hand, and a life in it."""

    now = 0.0
    fqcn = "site-1"
    is_alive = True


OPTIONS = PullOptions(retry_s=1.0)
SOURCE = Source("server", b"o" * 16, b"s" * 16, 200)


def ask(offset: int, length: int = 100) -> Ask:
    return Ask("site-1", "server", 7, b"o" * 16, b"s" * 16, offset, length, Verify.XXH3)


def asked_at(world: Still, watch: Watch, *moments: float) -> None:
    for world.now in moments:
        watch.asks(world, ask(0), OPTIONS)  # type: ignore[arg-type]


def test_d7_who_asks_again_must_have_waited_longer_each_time() -> None:
    world = Still()
    watch = Watch(world)
    asked_at(world, watch, 0.0, 1.0, 3.0)
    with pytest.raises(AssertionError, match="asks again after 3.0 s of silence, not after 4.0"):
        asked_at(world, watch, 6.0)


def test_d7_what_comes_begins_the_count_anew_and_a_doubt_needs_no_silence() -> None:
    world = Still()
    watch = Watch(world)
    asked_at(world, watch, 0.0, 1.0, 3.0)
    watch.lands(world, 7, 100, is_intact=True)  # type: ignore[arg-type]
    asked_at(world, watch, 4.0)
    watch.doubts(world, [7])  # type: ignore[arg-type]
    asked_at(world, watch, 4.1)
    watch.lands(world, 7, 0, is_intact=False)  # type: ignore[arg-type]
    asked_at(world, watch, 4.2)
    with pytest.raises(AssertionError, match="after 0.0"):
        asked_at(world, watch, 4.25)


def test_d7_it_must_be_the_same_piece() -> None:
    world = Still()
    watch = Watch(world)
    asked_at(world, watch, 0.0)
    world.now = 5.0
    with pytest.raises(AssertionError, match="another piece"):
        watch.asks(world, ask(0, 50), OPTIONS)  # type: ignore[arg-type]


def test_d15_an_end_that_is_known_or_told_late_is_found_out() -> None:
    world = Still()
    watch = Watch(world)
    transaction = Transaction(b"\1" * 16, world, Audience(), 10.0)  # type: ignore[arg-type]
    settled = TransactionSettled(transaction.id, Outcome.FINISHED, (("site-1", Outcome.FINISHED),))
    watch.moves(transaction)
    world.now = transaction.ended_at = 0.5
    with pytest.raises(AssertionError, match="all had it at 0.0, and that is known at 0.5"):
        watch.ended(transaction, settled)
    watch.moves(transaction)
    watch.ended(transaction, settled)
    world.now = 0.7
    with pytest.raises(AssertionError, match="after it was known"):
        watch.ended(transaction, settled)


def event(sequence: int, done: int, at: float, state: str) -> TransferProgress:
    return TransferProgress("t", "r", "site-1", sequence, done, 0, at, state)


@pytest.mark.parametrize("wrong", [
    event(1, 5, 1.0, ACTIVE), event(2, 5, INTERVAL_S / 2, ACTIVE), event(2, 4, 1.0, ACTIVE), event(2, 5, 1.0, START)])
def test_d9_d10_events_that_do_not_follow_are_found_out(wrong: TransferProgress) -> None:
    told: list[TransferProgress] = []
    tracker = TransferProgressTracker(NEVER)
    must_follow(event(0, 0, -1.0, START), told, tracker, 0.0)
    must_follow(event(1, 5, 0.0, ACTIVE), told, tracker, 0.0)
    with pytest.raises(AssertionError):
        must_follow(wrong, told, tracker, 1.0)


def test_d9_d10_nothing_follows_an_end() -> None:
    told: list[TransferProgress] = []
    tracker = TransferProgressTracker(NEVER)
    must_follow(event(0, 0, 0.0, START), told, tracker, 0.0)
    must_follow(event(1, 5, 0.0, COMPLETED), told, tracker, 0.0)
    with pytest.raises(AssertionError):
        must_follow(event(2, 6, 1.0, ACTIVE), told, tracker, 1.0)


def test_d10_a_pull_that_ends_well_without_having_told_all_is_found_out() -> None:
    pull = PullBook(Still(), SOURCE, ((0, 200),), 0.0, bytearray(200), True, told=100)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="100 of 200 bytes"):
        Watch(Still()).arrived(pull)


def test_d18_the_death_of_an_origin_is_known_at_once_in_these_histories() -> None:
    assert sum(Deaths(seed).run().told for seed in range(40)) > 40, "nobody pulls when they die"


def test_d18_who_does_not_hear_of_deaths_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimCell, "_cut_off", lambda *arguments: [])
    monkeypatch.setattr(Pull, "no_way", lambda *arguments: None)
    monkeypatch.setattr(Rerouting, "suspect", lambda *arguments: None)
    assert any("does not know" in trouble_of(seed, kind=Deaths) for seed in range(20))
