"""Pulls: every doubt is settled by asking again, every pull settles once, and nothing unverified counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from zdl.errors import (
    Busy,
    Cancelled,
    DiskFull,
    IntegrityError,
    LeaseEnded,
    LocalProtocolError,
    NoRoute,
    OriginFailed,
    OriginLost,
    Stalled,
    UnknownRef,
    ZdlError,
    to_wire,
)
from zdl.options import PullOptions
from zdl.protocol.confirming import CONFIRM_AGAIN_S
from zdl.protocol.effects import Detour, Effect, Finish, Post, Progressed, PullForgotten, PullSettled, Unreachable
from zdl.protocol.frames import RANGES_MAX
from zdl.protocol.messages import Ask, Bounce, Chunk, Confirm, Confirmed, Denial, Drop, Keep, Kind, Verify, Withdrawn
from zdl.protocol.pulls import Pulls
from zdl.protocol.reach import BOUNCED_S, SUSPECT_S
from zdl.refs import Source

OPTIONS = PullOptions(chunk_bytes=100, window_bytes_min=300, window_bytes_max=300, retry_s=10.0, stall_timeout_s=60.0,
                      lost_timeout_s=6.0, keep_alive_s=8.0, bad_chunks_max=3, pulls_max=3, verify="blake3")
OFFER, SECRET, DIGEST = b"o" * 16, b"s" * 16, b"d" * 32
SOURCE = Source("site-2", OFFER, SECRET, 450)
GOODBYE = Unreachable("server", "site-2", False, "closed")

# What an origin hears of a pull that had nothing to ask for, so that it believes its confirmation.
SPOKEN = Post(Keep("site-1", "site-2", 100, SOURCE.offer_id, SOURCE.secret))


def shown(effects: Sequence[Effect]) -> list[str]:
    """Effects with errors in them are compared as they are written: errors are equal only to themselves."""
    return [repr(each) for each in effects]


def pulling(*ranges: tuple[int, int], options: PullOptions = OPTIONS, source: Source = SOURCE) -> Pulls:
    """Pulls with one pull, 100, that began to ask at 0 s."""
    pulls = Pulls("site-1", 100, options)
    pulls.start(source, ranges or ((0, 450),), 0.0)
    pulls.go(100, 0.0)
    pulls.check()
    return pulls


def ask(offset: int, length: int = 100, *, number: int = 100, verify: Verify = Verify.BLAKE3) -> Post:
    return Post(Ask("site-1", "site-2", number, OFFER, SECRET, offset, length, verify))


def chunk(offset: int, length: int = 100, *, origin: str = "site-2", number: int = 100,
          verify: Verify = Verify.BLAKE3) -> Chunk:
    return Chunk(origin, "site-1", number, offset, length, verify, DIGEST, (b"x" * length,))


def confirm(*ranges: tuple[int, int]) -> Post:
    return Post(Confirm("site-1", "site-2", 100, OFFER, SECRET, ranges or ((0, 450),)))


def drop(why: str) -> Post:
    return Post(Drop("site-1", "site-2", 100, OFFER, SECRET, why))


def bounce(kind: Kind = Kind.ASK) -> Bounce:
    return Bounce("server", "site-1", 100, int(kind), *to_wire(NoRoute(target="site-2", at="server")))


def ended(error: ZdlError) -> list[str]:
    return shown([PullForgotten(100), PullSettled(100, error)])


def dropped(why: str, error: ZdlError) -> list[str]:
    """The user knows; that the origin has noted it is waited for."""
    return shown([drop(why), PullSettled(100, error)])


def land(pulls: Pulls, now: float, *offsets: int) -> list[Effect]:
    """These chunks come, intact, and are stored at once."""
    effects: list[Effect] = []
    for offset in offsets:
        arriving = chunk(offset, min(100, 450 - offset))
        assert pulls.expects(arriving)
        effects += [*pulls.landed(arriving, True, now), *pulls.stored(100, offset, now)]
        pulls.check()
    return effects


def whole(now: float = 1.0) -> tuple[Pulls, list[Effect]]:
    """A pull that has come to its good end, and its last effects."""
    pulls = pulling()
    land(pulls, now, 0, 100, 200, 300)
    return pulls, land(pulls, now, 400)


# --- asking -------------------------------------------------------------------------------------


def test_a_pull_waits_until_its_way_is_chosen() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    assert pulls.start(SOURCE, [(0, 450)], 0.0) == (100, [])
    assert (len(pulls), pulls.deadline(), pulls.tick(1e6)) == (1, None, [])
    assert pulls.go(100, 0.0) == [ask(0), ask(100), ask(200)], "as many as the window allows"
    assert pulls.go(100, 0.0) == [] == pulls.go(999, 0.0)


def test_no_chunk_crosses_the_end_of_a_range() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(SOURCE, [(400, 50), (0, 120)], 0.0)
    assert pulls.go(100, 0.0) == [ask(400, 50), ask(0), ask(100, 20)]


def test_a_chunk_that_is_stored_makes_room_for_the_next() -> None:
    pulls = pulling()
    assert land(pulls, 1.0, 0) == [Progressed(100, 100, 450), ask(300)]
    assert land(pulls, 1.0, 200) == [Progressed(100, 200, 450), ask(400, 50)]
    assert land(pulls, 1.0, 100) == [Progressed(100, 300, 450)]


def test_a_chunk_that_has_landed_keeps_its_room_until_it_is_stored() -> None:
    pulls = pulling(options=PullOptions(chunk_bytes=100, window_bytes_min=300, window_bytes_max=300, verify="blake3"))
    assert pulls.landed(chunk(0), True, 1.0) == []
    assert pulls.landed(chunk(100), True, 1.0) == []
    assert pulls.rerouting.changed("site-2", 1.0) == [ask(200)]
    assert pulls.stored(100, 0, 2.0) == [Progressed(100, 100, 450), ask(300)]
    pulls.check()


def test_without_verification_chunks_without_digest_are_asked_for() -> None:
    options = PullOptions(chunk_bytes=100, window_bytes_min=300, window_bytes_max=3000, verify="none")
    pulls = Pulls("site-1", 100, options)
    pulls.start(SOURCE, [(0, 100)], 0.0)
    assert pulls.go(100, 0.0) == [ask(0, verify=Verify.NONE)]
    assert pulls.expects(chunk(0, verify=Verify.NONE)) and not pulls.expects(chunk(0))


@pytest.mark.parametrize(("is_kept", "is_direct", "verify"), [
    (False, True, Verify.XXH3), (True, True, Verify.BLAKE3), (False, False, Verify.BLAKE3), (True, False, Verify.BLAKE3)])
def test_bytes_that_are_kept_or_pass_other_cells_have_the_strong_digest(is_kept: bool, is_direct: bool, verify: Verify) -> None:
    pulls = Pulls("site-1", 100, replace(OPTIONS, verify="auto"))
    pulls.start(SOURCE, ((0, 100),), 0.0, is_kept=is_kept)
    assert pulls.go(100, 0.0, is_direct=is_direct) == [ask(0, verify=verify)]


def test_a_pull_that_loses_its_direct_way_goes_on_with_the_strong_digest() -> None:
    pulls = Pulls("site-1", 100, replace(OPTIONS, verify="auto"))
    pulls.start(SOURCE, ((0, 100),), 0.0)
    pulls.go(100, 0.0)
    assert pulls.rerouting.changed("site-2", 1.0) == [ask(0, verify=Verify.BLAKE3)]
    assert not pulls.expects(chunk(0, verify=Verify.XXH3)) and pulls.expects(chunk(0))
    assert pulls.rerouting.changed("site-2", 2.0, is_direct=True) == [ask(0, verify=Verify.XXH3)]


def test_the_quick_digest_may_be_asked_for_everywhere() -> None:
    pulls = Pulls("site-1", 100, replace(OPTIONS, verify="xxh3"))
    pulls.start(SOURCE, ((0, 100),), 0.0, is_kept=True)
    assert pulls.go(100, 0.0, is_direct=False) == [ask(0, verify=Verify.XXH3)]


def test_a_pull_of_nothing_is_complete_at_once() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(SOURCE, [(0, 0)], 0.0)
    assert pulls.go(100, 0.0) == [SPOKEN, confirm((0, 0)), PullSettled(100, None)]


def test_no_more_pulls_than_the_limit_are_under_way() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    assert [pulls.start(SOURCE, [(0, 1)], 0.0)[0] for _ in range(3)] == [100, 101, 102]
    with pytest.raises(Busy) as caught:
        pulls.start(SOURCE, [(0, 1)], 0.0)
    assert (caught.value.limit, caught.value.at, len(pulls)) == ("pulls_max", "site-1", 3)


@pytest.mark.parametrize("ranges", [[(0, 100), (0, 200)], [(0, 100), (50, 100)]])
def test_ranges_that_overlap_are_a_bug_of_the_caller(ranges: list[tuple[int, int]]) -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    with pytest.raises(LocalProtocolError, match="overlap"):
        pulls.start(SOURCE, ranges, 0.0)
    assert len(pulls) == 0


# --- what is expected ---------------------------------------------------------------------------


def test_only_what_was_asked_for_and_has_not_come_is_expected() -> None:
    pulls = pulling()
    assert pulls.expects(chunk(0))
    for wrong in (chunk(300), chunk(0, 99), chunk(0, origin="site-3"), chunk(0, number=999),
                  chunk(0, verify=Verify.NONE)):
        assert not pulls.expects(wrong)
        assert pulls.landed(wrong, True, 1.0) == []
    land(pulls, 1.0, 0)
    assert not pulls.expects(chunk(0)), "a chunk that comes twice changes nothing"
    assert pulls.landed(chunk(0), True, 1.0) == []


def test_storing_what_did_not_land_changes_nothing() -> None:
    pulls = pulling()
    assert pulls.stored(100, 0, 1.0) == [] == pulls.stored(999, 0, 1.0)


# --- the good end -------------------------------------------------------------------------------


def test_when_all_is_stored_the_pull_is_confirmed_and_the_user_has_it() -> None:
    pulls, effects = whole()
    assert effects == [Progressed(100, 450, 450), confirm(), PullSettled(100, None)]
    assert (len(pulls), pulls.confirming) == (1, 1)


def finishing() -> Pulls:
    """A pull that has everything, and makes it last since 1 s."""
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(SOURCE, [(0, 450)], 0.0, finishes=True)
    pulls.go(100, 0.0)
    assert land(pulls, 1.0, 0, 100, 200, 300, 400)[-1] == Finish(100)
    return pulls


def test_what_must_be_made_to_last_is_confirmed_when_that_is_done() -> None:
    pulls = finishing()
    assert pulls.stored(100, 400, 2.0) == [] and pulls.go(100, 2.0) == []
    assert pulls.finished(100, 3.0) == [confirm(), PullSettled(100, None)]
    assert pulls.finished(100, 4.0) == []


def test_a_disk_that_takes_long_to_make_it_last_ends_nothing_and_the_lease_is_kept() -> None:
    pulls = finishing()
    assert pulls.deadline() == 9.0
    for now in range(9, 800, 8):
        assert pulls.tick(float(now)) == [Post(Keep("site-1", "site-2", 100, OFFER, SECRET))]
        pulls.check()
    assert pulls.finished(100, 800.0) == [confirm(), PullSettled(100, None)]


def test_while_it_is_made_to_last_neither_the_user_nor_the_origin_nor_a_loss_ends_the_pull() -> None:
    pulls = finishing()
    assert pulls.cancel(100, "enough", 2.0) == []
    assert pulls.receive(Withdrawn("site-2", "site-1", 100, OFFER, "deleted"), 2.0) == []
    assert pulls.receive(Denial("site-2", "site-1", 100, *to_wire(UnknownRef(ref="r", origin="site-2"))), 2.0) == []
    assert pulls.receive(GOODBYE, 2.0) == [] and pulls.rerouting.changed("site-2", 2.0) == []
    assert pulls.finished(100, 3.0) == [confirm(), PullSettled(100, None)]


def test_what_cannot_be_made_to_last_ends_the_pull() -> None:
    pulls, error = finishing(), DiskFull(ref="r", origin="site-2", path="/p", need=2, free=1)
    assert shown(pulls.cancel(100, error, 2.0)) == dropped("disk-full", error)
    assert pulls.finished(100, 3.0) == []


def test_what_is_here_already_is_not_asked_for_and_is_confirmed_with_the_rest() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(SOURCE, [(200, 100)], 0.0, have=[(0, 200), (300, 150)])
    assert pulls.go(100, 0.0) == [ask(200)]
    pulls.check()
    assert land(pulls, 1.0, 200) == [Progressed(100, 450, 450), confirm(), PullSettled(100, None)]


def test_when_all_of_it_is_here_already_it_is_only_made_to_last_and_confirmed() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(SOURCE, [], 0.0, have=[(0, 450)], finishes=True)
    assert pulls.go(100, 0.0) == [SPOKEN, Finish(100)]
    assert pulls.finished(100, 1.0) == [confirm(), PullSettled(100, None)]


def test_a_pull_is_forgotten_when_the_origin_has_noted_its_end() -> None:
    pulls, _ = whole()
    assert pulls.receive(Confirmed("site-3", "site-1", 100), 1.1) == []
    assert pulls.receive(Confirmed("site-2", "site-1", 100), 1.1) == [PullForgotten(100)]
    assert pulls.receive(Confirmed("site-2", "site-1", 100), 1.2) == []
    assert len(pulls) == 0


def test_a_confirmed_while_pulling_changes_nothing() -> None:
    assert pulling().receive(Confirmed("site-2", "site-1", 100), 1.0) == []


def test_a_confirmation_is_repeated_with_growing_pauses_and_then_given_up() -> None:
    pulls, _ = whole(now=1.0)
    now = 1.0
    for pause in CONFIRM_AGAIN_S:
        assert pulls.tick(now + pause - 0.01) == []
        now += pause
        assert pulls.deadline() == now
        assert pulls.tick(now) == [confirm()]
    assert pulls.tick(now + CONFIRM_AGAIN_S[-1]) == [PullForgotten(100)]
    assert pulls.deadline() is None


def test_a_confirmation_that_bounces_is_not_hurried() -> None:
    pulls, _ = whole(now=1.0)
    for _ in range(20):
        assert pulls.receive(bounce(Kind.CONFIRM), 1.1) == []
        assert pulls.receive(GOODBYE, 1.1) == []
    assert pulls.tick(1.4) == []
    assert pulls.tick(1.5) == [confirm()]


@pytest.mark.parametrize("answer", [
    Denial("site-2", "site-1", 100, *to_wire(UnknownRef(ref="ref", origin="site-2"))),
    Withdrawn("site-2", "site-1", 100, OFFER, "deleted")])
def test_who_has_all_bytes_does_not_mind_that_the_offer_is_gone(answer: Denial | Withdrawn) -> None:
    pulls, _ = whole()
    assert pulls.receive(answer, 1.1) == [PullForgotten(100)]


def test_a_pull_that_has_settled_can_not_be_cancelled() -> None:
    pulls, _ = whole()
    assert pulls.cancel(100, "late", 1.1) == []


def test_ranges_that_touch_are_confirmed_as_one() -> None:
    pulls = pulling((100, 100), (0, 100))
    assert land(pulls, 1.0, 100, 0)[-2:] == [confirm((0, 200)), PullSettled(100, None)]


def test_more_ranges_than_fit_into_a_header_are_confirmed_in_several_messages() -> None:
    count = RANGES_MAX + 1
    ranges = [(at * 1000, 1) for at in range(count)]
    pulls = pulling(*ranges, source=Source("site-2", OFFER, SECRET, 1000 * count))
    waiting = [at for at, _ in ranges]
    effects: list[Effect] = []
    while waiting:
        at = waiting.pop(0)
        effects = [*pulls.landed(chunk(at, 1), True, 1.0), *pulls.stored(100, at, 1.0)]
    confirms = [each.message for each in effects if isinstance(each, Post)]
    assert [len(each.ranges) for each in confirms if isinstance(each, Confirm)] == [RANGES_MAX, 1]
    assert pulls.receive(Confirmed("site-2", "site-1", 100), 2.0) == [], "one of them may have been lost"
    assert pulls.receive(Confirmed("site-2", "site-1", 100), 2.0) == [PullForgotten(100)]


# --- wrong digests ------------------------------------------------------------------------------


def test_a_chunk_with_a_wrong_digest_is_asked_for_again() -> None:
    pulls = pulling()
    assert pulls.landed(chunk(0), False, 1.0) == [ask(0)]
    pulls.check()
    assert land(pulls, 2.0, 0) == [Progressed(100, 100, 450), ask(300)]


def test_a_chunk_that_is_wrong_again_and_again_ends_the_pull() -> None:
    pulls = pulling((0, 200))
    for _ in range(2):
        assert pulls.landed(chunk(0), False, 1.0) == [ask(0)]
        assert pulls.landed(chunk(100), False, 1.0) == [ask(100)], "each chunk is counted by itself"
    error = IntegrityError(ref=SOURCE.label, origin="site-2", offset=0, attempts=3)
    assert shown(pulls.landed(chunk(0), False, 1.0)) == dropped("integrity", error)
    assert (len(pulls), pulls.dropping) == (1, 1)


# --- asking again -------------------------------------------------------------------------------


def test_silence_asks_again_for_the_oldest_chunk_only_and_ever_more_rarely() -> None:
    pulls = pulling()
    pulls.landed(chunk(0), False, 1.0)
    assert pulls.tick(10.9) == [Post(Keep("site-1", "site-2", 100, OFFER, SECRET))]
    assert pulls.tick(11.0) == [ask(100)]
    assert [each for now in (20.0, 30.9) for each in pulls.tick(now) if each == ask(200)] == []
    assert pulls.tick(31.0)[0] == ask(200)
    pulls.check()


def test_progress_begins_the_pauses_anew() -> None:
    pulls = pulling()
    pulls.tick(10.0)
    land(pulls, 11.0, 100)
    assert ask(200) in pulls.tick(21.0)


def test_a_chunk_that_comes_after_it_was_asked_for_again_is_taken_once() -> None:
    pulls = pulling()
    pulls.tick(10.0)
    land(pulls, 10.1, 0)
    assert not pulls.expects(chunk(0))
    window = pulls._pulls[100].window
    assert window.round_trip_s == float("inf"), "which question it answers is not known"


def test_a_changed_way_asks_again_for_all_that_is_on_the_way() -> None:
    pulls = pulling()
    land(pulls, 1.0, 100)
    assert pulls.rerouting.changed("site-2", 1.5) == [ask(0), ask(200), ask(300)]
    assert pulls.rerouting.changed("site-3", 1.5) == []
    pulls.check()


def test_a_pull_that_waits_or_confirms_does_not_mind_a_changed_way() -> None:
    pulls, _ = whole()
    pulls.start(SOURCE, [(0, 1)], 1.0)
    assert pulls.rerouting.changed("site-2", 1.5) == []


def test_a_receiver_that_has_nothing_to_ask_keeps_its_lease() -> None:
    pulls = pulling()
    keep = Post(Keep("site-1", "site-2", 100, OFFER, SECRET))
    assert pulls.deadline() == 8.0
    assert pulls.tick(8.0) == [keep]
    assert pulls.tick(15.9) == [ask(0)]


# --- no way -------------------------------------------------------------------------------------


def test_a_question_that_bounces_is_asked_again_soon() -> None:
    pulls = pulling()
    assert pulls.receive(bounce(), 1.0) == []
    assert pulls.deadline() == 1.0 + BOUNCED_S
    assert pulls.tick(1.0 + BOUNCED_S) == [ask(0), ask(100), ask(200)]
    pulls.check()


def test_bounces_do_not_make_the_pauses_of_silence_longer() -> None:
    pulls = pulling()
    now = 1.0
    for _ in range(12):
        pulls.receive(bounce(), now)
        now += BOUNCED_S
        pulls.tick(now)
    assert now == 4.0
    assert ask(0) not in pulls.tick(13.9)
    assert ask(0) in pulls.tick(14.0)


@pytest.mark.parametrize("kind", [Kind.ASK, Kind.KEEP])
def test_no_way_for_too_long_ends_the_pull(kind: Kind) -> None:
    pulls = pulling()
    land(pulls, 0.5, 0)
    pulls.receive(bounce(kind), 1.0)
    while (now := pulls.deadline() or 0.0) < 7.0:
        assert all(isinstance(each, Post) for each in pulls.tick(now))
        pulls.receive(bounce(kind), now)
    error = OriginLost(ref=SOURCE.label, origin="site-2", bytes_done=100, bytes_total=450,
                       why=str(NoRoute(target="site-2", at="server")))
    assert shown(pulls.tick(7.0)) == ended(error)


def test_a_loss_on_the_way_is_no_way() -> None:
    pulls = pulling()
    assert pulls.receive(GOODBYE, 1.0) == []
    assert pulls.receive(Unreachable("server", "site-3", False, "closed"), 2.0) == []
    assert pulls.tick(1.25) == [ask(0), ask(100), ask(200)]
    pulls.receive(GOODBYE, 5.0)
    error = OriginLost(ref=SOURCE.label, origin="site-2", bytes_done=0, bytes_total=450, why="closed")
    assert all(isinstance(each, Post) for each in pulls.tick(7.9))
    assert len(pulls) == 1, "the second loss is another one"
    pulls.receive(GOODBYE, 7.9)
    pulls.receive(GOODBYE, 10.0)
    assert shown(pulls.tick(11.0)) == ended(error)


def test_an_origin_that_is_only_slow_after_an_outage_is_not_lost() -> None:
    pulls = pulling()
    pulls.receive(GOODBYE, 1.0)
    assert pulls.tick(1.25) == [ask(0), ask(100), ask(200)]
    assert all(isinstance(each, Post) for each in pulls.tick(7.0))
    deadline = pulls.deadline()
    assert len(pulls) == 1 and deadline is not None and deadline > 7.0
    land(pulls, 30.0, 0)


def test_a_chunk_that_comes_proves_that_there_is_a_way() -> None:
    pulls = pulling()
    pulls.receive(GOODBYE, 1.0)
    pulls.tick(1.25)
    land(pulls, 6.0, 0)
    assert all(isinstance(each, Post) for each in pulls.tick(7.5))
    assert len(pulls) == 1


def test_who_has_everything_and_only_stores_it_needs_no_way() -> None:
    pulls = pulling((0, 100))
    pulls.landed(chunk(0), True, 1.0)
    pulls.receive(GOODBYE, 1.0)
    assert pulls.tick(7.0) == []
    assert pulls.deadline() is not None and pulls.deadline() > 7.0  # type: ignore[operator]
    assert pulls.stored(100, 0, 70.0)[-1] == PullSettled(100, None)


def test_a_bounce_of_something_else_or_of_nothing_known_changes_nothing() -> None:
    pulls = pulling()
    assert pulls.receive(bounce(Kind.DROP), 1.0) == []
    assert pulls.deadline() == 8.0
    assert pulls.receive(Bounce("server", "site-1", 999, int(Kind.ASK), "no-route", {}), 1.0) == []


def test_this_cell_as_its_own_origin_is_never_unreachable() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(Source("site-1", OFFER, SECRET, 100), [(0, 100)], 0.0)
    pulls.go(100, 0.0)
    pulls.receive(Unreachable("server", "site-1", False, "closed"), 1.0)
    assert pulls.deadline() == 8.0


# --- the other ends -----------------------------------------------------------------------------


def test_no_verified_byte_for_too_long_ends_the_pull_and_the_origin_is_told() -> None:
    pulls = pulling()
    land(pulls, 5.0, 0)
    now = 0.0
    while now < 65.0:
        now = min(pulls.deadline() or 65.0, 65.0)
        effects = pulls.tick(now)
    error = Stalled(ref=SOURCE.label, origin="site-2", bytes_done=100, bytes_total=450, waited_s=60.0)
    assert shown(effects) == dropped("stalled", error)


def test_a_disk_that_is_slower_than_the_stall_timeout_does_not_end_the_pull() -> None:
    pulls = pulling()
    pulls.landed(chunk(0), True, 1.0)
    assert all(isinstance(each, Post) for each in pulls.tick(100.0))
    pulls.stored(100, 0, 100.0)
    assert all(isinstance(each, Post) for each in pulls.tick(101.0))
    assert len(pulls) == 1


def test_a_denial_ends_the_pull_with_its_error() -> None:
    failed = OriginFailed(ref=SOURCE.label, origin="site-2", why="OSError: gone")
    pulls = pulling()
    assert pulls.receive(Denial("site-3", "site-1", 100, *to_wire(failed)), 1.0) == []
    assert shown(pulls.receive(Denial("site-2", "site-1", 100, *to_wire(failed)), 1.0)) == ended(failed)
    assert pulls.receive(Denial("site-2", "site-1", 100, *to_wire(failed)), 1.0) == []


def test_a_withdrawn_offer_ends_the_pull() -> None:
    pulls = pulling()
    for stranger in (Withdrawn("site-2", "site-1", 100, b"x" * 16, "deleted"),
                     Withdrawn("site-3", "site-1", 100, OFFER, "deleted"),
                     Withdrawn("site-2", "site-1", 999, OFFER, "deleted")):
        assert pulls.receive(stranger, 1.0) == []
    error = LeaseEnded(ref=SOURCE.label, origin="site-2", how="deleted")
    assert shown(pulls.receive(Withdrawn("site-2", "site-1", 100, OFFER, "deleted"), 1.0)) == ended(error)


def test_a_cancelled_pull_settles_and_the_origin_is_told() -> None:
    error = Cancelled(what=f"the pull of {SOURCE.label} from site-2", why="no longer wanted")
    pulls = pulling()
    assert shown(pulls.cancel(100, "no longer wanted", 1.0)) == dropped("cancelled", error)
    assert pulls.cancel(100, "again", 1.0) == []


def test_a_pull_that_cannot_store_its_bytes_is_ended_with_that_error() -> None:
    error = DiskFull(ref=SOURCE.label, origin="site-2", path="/tmp/x", need=10, free=1)
    assert shown(pulling().cancel(100, error, 1.0)) == dropped("disk-full", error)


def test_a_pull_that_still_waits_can_be_cancelled_too() -> None:
    pulls = Pulls("site-1", 100, OPTIONS)
    pulls.start(SOURCE, [(0, 450)], 0.0)
    assert pulls.cancel(100, "no longer wanted", 1.0)[0] == drop("cancelled")
    assert pulls.go(100, 2.0) == []


# --- whatever happens ---------------------------------------------------------------------------


STEPS = st.lists(st.tuples(st.sampled_from(["good", "bad", "store", "bounce", "lost", "changed", "tick", "again"]),
                           st.integers(0, 8), st.floats(0.0, 3.0)), max_size=60)


@given(STEPS)
def test_in_any_order_of_events_the_invariants_hold_and_the_pull_settles_once(
        steps: list[tuple[str, int, float]]) -> None:
    pulls, now, effects = pulling((0, 850), source=Source("site-2", OFFER, SECRET, 850)), 0.0, []
    for what, index, wait_s in steps:
        now += wait_s
        offset = index * 100
        arriving = chunk(offset, min(100, 850 - offset))
        match what:
            case "good" | "bad":
                effects += pulls.landed(arriving, what == "good", now) if pulls.expects(arriving) else []
            case "store":
                effects += pulls.stored(100, offset, now)
            case "bounce":
                effects += pulls.receive(bounce(), now)
            case "lost":
                effects += pulls.receive(GOODBYE, now)
            case "changed":
                effects += pulls.rerouting.changed("site-2", now)
            case "again":
                effects += pulls.receive(Confirmed("site-2", "site-1", 100), now)
        effects += pulls.tick(now)
        pulls.check()
        deadline = pulls.deadline()
        assert deadline is None or deadline > now
    ends = [each for each in effects if isinstance(each, PullSettled)]
    assert len(ends) <= 1
    if ends and ends[0].error is None:
        assert Progressed(100, 850, 850) in effects
    assert len(pulls) == 1 or len(ends) == 1


# --- what the origin must note, and what is thought of it -----------------------------------------


def test_a_drop_is_repeated_until_it_is_noted() -> None:
    pulls = pulling()
    pulls.cancel(100, "no longer wanted", 1.0)
    assert (len(pulls), pulls.dropping, pulls.deadline()) == (1, 1, 1.5)
    assert pulls.landed(chunk(0), True, 1.1) == [] and pulls.stored(100, 0, 1.1) == [], "what comes now is not wanted"
    assert (pulls.tick(1.5), pulls.tick(2.4)) == ([drop("cancelled")], [])
    assert pulls.receive(Confirmed("site-3", "site-1", 100), 2.4) == []
    assert pulls.receive(Confirmed("site-2", "site-1", 100), 2.4) == [PullForgotten(100)]
    assert len(pulls) == 0


def test_an_origin_that_never_notes_a_drop_is_given_up() -> None:
    pulls = pulling()
    pulls.cancel(100, "no longer wanted", 1.0)
    assert [pulls.tick(now) for now in (1.5, 2.5, 4.5, 6.5)] == [
        [drop("cancelled")], [drop("cancelled")], [drop("cancelled")], [PullForgotten(100)]]


def test_where_a_queue_was_full_the_oldest_chunk_is_asked_for_again_soon() -> None:
    pulls = pulling()
    code, facts = to_wire(Busy(limit="queue", value=9, at="site-2"))
    assert pulls.receive(Bounce("site-2", "site-1", 100, int(Kind.ASK), code, facts), 1.0) == []
    assert pulls.deadline() == 1.0 + BOUNCED_S
    assert [type(each.message) for each in pulls.tick(1.0 + BOUNCED_S) if isinstance(each, Post)] == [Ask]
    later = pulls.deadline()
    assert later is not None and later > 1.0 + 2 * BOUNCED_S, "once for each that was lost"


@pytest.mark.parametrize("is_broken", [True, False])
def test_an_origin_whose_link_has_broken_and_that_the_tree_has_lost_is_dead_soon(is_broken: bool) -> None:
    pulls = pulling(options=replace(OPTIONS, lost_timeout_s=60.0, stall_timeout_s=600.0))
    pulls.rerouting.changed("site-2", 1.0, is_broken=is_broken)
    pulls.receive(GOODBYE, 1.1)
    code, facts = to_wire(NoRoute(target="site-2", at="server"))
    for now in (1.2, 2.0, 2.9):
        pulls.receive(Bounce("server", "site-1", 100, int(Kind.ASK), code, facts), now)
    ends = [effect for now in (3.0, 3.1, 3.3) for effect in pulls.tick(now) if isinstance(effect, PullSettled)]
    assert [type(each.error) for each in ends] == ([OriginLost] if is_broken else [])


def test_an_origin_that_is_heard_again_is_not_dead() -> None:
    pulls = pulling(options=replace(OPTIONS, lost_timeout_s=60.0, stall_timeout_s=600.0))
    pulls.rerouting.changed("site-2", 1.0, is_broken=True)
    pulls.receive(GOODBYE, 1.1)
    pulls.tick(1.5)
    land(pulls, 2.0, 0)
    assert not any(isinstance(effect, PullSettled) for now in (3.2, 9.0) for effect in pulls.tick(now))


def test_a_direct_link_over_which_nothing_comes_is_left_when_the_tree_has_lost_its_peer() -> None:
    pulls = pulling(options=replace(OPTIONS, lost_timeout_s=60.0, stall_timeout_s=600.0))
    pulls.rerouting.suspect("site-3", 1.0)
    pulls.rerouting.suspect("site-2", 1.0)
    pulls.rerouting.suspect("site-2", 1.5)
    land(pulls, 2.0, 0)  # it comes all the same
    assert not any(isinstance(each, Detour) for each in pulls.tick(5.0))
    pulls.rerouting.suspect("site-2", 6.0)
    assert Detour("site-2") in pulls.tick(6.0 + SUSPECT_S)
    assert Detour("site-2") not in pulls.tick(20.0)
