"""Introductions: asked along the tree, answered with a token or a reason, tried, remembered, left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zdl.errors import NoRoute, to_wire
from zdl.options import LinkOptions
from zdl.protocol.introductions import Idle, Introductions, Knock, Step, dialable
from zdl.protocol.link import Self
from zdl.protocol.messages import Bounce, Hello, Introduce, Introduced, Kind, Role

OPTIONS = LinkOptions(direct_after_count=3, direct_within_s=10.0, direct_idle_s=60.0, direct_retry_s=30.0,
                      direct_peers_max=2, introduction_s=5.0)
HERE = ("tcp://10.0.0.1:1",)
TOKEN = b"t" * 16


def cell(fqcn: str = "site-1", *, addresses: tuple[str, ...] = HERE, host: str = "a",
         options: LinkOptions = OPTIONS) -> Introductions:
    return Introductions(Self(fqcn, b"1" * 16, addresses=addresses, host=host, secret=fqcn.encode()), options)


def asks(made: Introductions, target: str = "site-2", now: float = 0.0) -> Introduce:
    """Enough is sent to the target, and it is asked."""
    steps: list[Step] = []
    for number in range(1, 4):
        assert steps == []
        steps = made.sent(target, number, now)
    made.check()
    assert len(steps) == 1 and isinstance(steps[0], Introduce)
    return steps[0]


def answer(made: Introductions, question: Introduce, now: float = 0.0) -> Introduced:
    """What a cell answers to this question, doing nothing else."""
    steps = made.receive(question, now)
    made.check()
    assert len(steps) == 1 and isinstance(steps[0], Introduced)
    return steps[0]


def hello(origin: str, token: bytes) -> Hello:
    return Hello(origin, b"2" * 16, Role.DIRECT, 2.0, (), 1, "", token)


# --- asking -------------------------------------------------------------------------------------


def test_enough_messages_within_a_while_and_the_target_is_asked_once() -> None:
    made = cell()
    question = asks(made)
    assert (question.target, question.host, question.addresses, len(question.token)) == ("site-2", "a", HERE, 16)
    assert made.sent("site-2", 4, 0.1) == []


def test_messages_that_are_far_apart_ask_for_nothing() -> None:
    made = cell()
    for index in range(20):
        assert made.sent("site-2", index, index * 5.1) == []


def test_who_does_not_listen_offers_nothing_to_dial() -> None:
    question = asks(cell(addresses=()))
    assert (question.token, question.addresses) == (b"", ())


def test_an_answer_is_dialled_address_by_address_with_its_token() -> None:
    made = cell()
    question = asks(made)
    given = Introduced("site-2", "site-1", question.id, TOKEN, ("tcp://x:1", "tcp://y:1"), "")
    assert made.receive(given, 0.1) == [Knock("site-2", "tcp://x:1", TOKEN)]
    made.knocking("site-2", 3)
    assert made.failed(3, NoRoute(target="x", at="y"), 0.2) == [Knock("site-2", "tcp://y:1", TOKEN)]
    made.knocking("site-2", 5)
    assert made.why("site-2") == "a direct link is being asked for"
    assert made.failed(5, NoRoute(target="z", at="y"), 0.3) == []
    assert "no route to z" in made.why("site-2")
    assert made.failed(5, NoRoute(target="z", at="y"), 0.3) is None, "none of ours"
    made.check()


def test_an_answer_to_another_question_or_nobodys_is_not_heard() -> None:
    made = cell()
    question = asks(made)
    given = Introduced("site-2", "site-1", question.id, TOKEN, ("tcp://x:1",), "")
    assert made.receive(replace(given, id=99), 0.1) == made.receive(replace(given, origin="site-3"), 0.1) == []
    assert made.receive(given, 0.1) != []
    assert made.receive(given, 0.1) == [], "a doubled answer"


@pytest.mark.parametrize("how", ["refused", "bounced", "late"])
def test_after_a_no_the_tree_is_used_for_a_while_that_doubles(how: str) -> None:
    made, now = cell(), 0.0
    for pause in (30.0, 60.0, 120.0, 240.0, 480.0, 480.0):
        question = asks(made, now=now)
        if how == "refused":
            made.receive(Introduced("site-2", "site-1", question.id, b"", (), "it does not want"), now)
            assert made.why("site-2") == "it does not want"
        elif how == "bounced":
            error = NoRoute(target="site-2", at="server")
            made.receive(Bounce("server", "site-1", question.id, int(Kind.INTRODUCE), *to_wire(error)), now)
            assert made.why("site-2") == str(error)
        else:
            now += 5.0
            assert made.tick(now) == []
            assert made.why("site-2") == "site-2 was asked, and there was no link within 5 s"
        made.tick(now + pause - 0.01)
        assert [made.sent("site-2", number, now + pause - 0.01) for number in range(5)] == [[]] * 5
        assert made.deadline() == pytest.approx(now + pause)
        now += pause
        made.tick(now)
        made.check()


def test_a_bounce_of_another_kind_or_question_is_not_heard() -> None:
    made = cell()
    question = asks(made)
    facts = to_wire(NoRoute(target="site-2", at="server"))
    assert made.receive(Bounce("server", "site-1", question.id, int(Kind.REQUEST), *facts), 0.1) == []
    assert made.receive(Bounce("server", "site-1", 99, int(Kind.INTRODUCE), *facts), 0.1) == []
    assert made.why("site-2") == "a direct link is being asked for"


def test_no_more_direct_links_than_the_limit() -> None:
    made = cell()
    asks(made, "site-2")
    asks(made, "site-3")
    assert [made.sent("site-4", number, 0.0) for number in range(4)] == [[]] * 4
    assert made.why("site-4") == "site-1 has direct_peers_max=2 direct links"
    assert answer(made, Introduce("site-5", "site-1", 1, "a", b"", ())).why == "site-1 has direct_peers_max=2 direct links"


def test_targets_that_matter_little_are_forgotten_for_new_ones() -> None:
    made = cell(options=replace(OPTIONS, interest_max=3))
    asks(made, "site-2")
    for index in range(10):
        made.sent(f"far-{index}", 1, 0.0)
        made.check()
    assert made.why("site-2") == "a direct link is being asked for"
    assert made.why("far-0") == "0 of direct_after_count=3 messages so far"
    assert made.why("far-9") == "1 of direct_after_count=3 messages so far"


# --- being asked --------------------------------------------------------------------------------


def test_who_listens_answers_with_a_token_for_the_asker_alone() -> None:
    asked = cell("site-2")
    given = answer(asked, asks(cell()))
    assert (given.addresses, given.why, len(given.token)) == (HERE, "", 16)
    for wrong in (hello("site-3", given.token), hello("site-1", b"x" * 16), hello("site-1", b"")):
        refusal = asked.objection(wrong, 1.0)
        assert refusal is not None and refusal[0] == "not-introduced"
    assert asked.objection(hello("site-1", given.token), 1.0) is None
    assert asked.objection(hello("site-1", given.token), 1.0) is not None, "used once"


def test_a_token_runs_out() -> None:
    asked = cell("site-2")
    given = answer(asked, asks(cell()))
    assert asked.objection(hello("site-1", given.token), 5.1) is not None
    asked.tick(5.1)
    asked.check()
    assert asked.objection(hello("site-1", given.token), 5.1) is not None


def test_tokens_are_different_for_names_and_times() -> None:
    asked = cell("site-2")
    tokens = {answer(asked, Introduce(name, "site-2", number, "a", b"", ())).token
              for name in ("site-1", "site-3") for number in (1, 2)}
    assert len(tokens) == 4


def test_a_doubled_question_gets_the_same_answer() -> None:
    asked, question = cell("site-2"), asks(cell())
    assert answer(asked, question) == answer(asked, question)


def test_who_does_not_listen_dials_the_asker_with_its_token() -> None:
    asked, question = cell("site-2", addresses=()), asks(cell())
    steps = asked.receive(question, 0.0)
    assert steps == [Introduced("site-2", "site-1", question.id, b"", (), ""), Knock("site-1", HERE[0], question.token)]


def test_the_asker_lets_in_who_dials_it() -> None:
    made = cell()
    question = asks(made)
    assert made.receive(Introduced("site-2", "site-1", question.id, b"", (), ""), 0.1) == []
    assert made.why("site-2") == "a direct link is being asked for"
    assert made.objection(hello("site-2", question.token), 0.2) is None
    made.up("site-2", 2, 0.2)
    assert made.why("site-2") == ""
    made.check()


def test_where_neither_can_dial_the_other_the_answer_says_so() -> None:
    given = answer(cell("site-2", addresses=("ipc:///x",), host="b"), asks(cell(addresses=())))
    assert given.why == "neither site-2 nor site-1 listens where the other could dial it"


def test_direct_links_can_be_off() -> None:
    off = cell("site-2", options=replace(OPTIONS, direct=False))
    assert answer(off, asks(cell())).why == off.why("site-1") == "direct links are off in site-2"


def test_where_both_ask_at_the_same_time_the_question_of_the_lesser_name_counts() -> None:
    lesser, greater = cell("site-1"), cell("site-2")
    one, other = asks(lesser, "site-2"), asks(greater, "site-1")
    of_lesser, of_greater = answer(lesser, other), answer(greater, one)
    assert (of_lesser.token, of_lesser.addresses, of_lesser.why) == (b"", (), "")
    assert greater.receive(of_lesser, 0.1) == []
    assert lesser.receive(of_greater, 0.1) == [Knock("site-2", HERE[0], of_greater.token)]
    assert greater.objection(hello("site-1", of_greater.token), 0.2) is None


# --- the link -----------------------------------------------------------------------------------


def linked() -> Introductions:
    """A cell whose link to site-2 is up since 1 s, as link 3; three requests went along the tree."""
    made = cell()
    question = asks(made)
    made.receive(Introduced("site-2", "site-1", question.id, TOKEN, ("tcp://x:1",), ""), 0.5)
    made.knocking("site-2", 3)
    made.up("site-2", 3, 1.0)
    made.check()
    return made


def test_a_link_that_is_up_has_no_reason_against_it() -> None:
    made = linked()
    assert made.why("site-2") == ""
    assert made.spared("site-2", False) == made.spared("site-1", True) == (("site-2", 3),)
    assert made.spared("site-3", False) == ()


def test_who_asked_leaves_the_link_when_it_has_sent_nothing_for_long() -> None:
    made = linked()
    made.used("site-2", 31.0)
    assert made.tick(61.0) == []
    assert made.deadline() == 91.0
    assert made.tick(91.0) == [Idle("site-2")]
    made.down("site-2", 3, "it was idle", 91.0, is_clean=True)
    assert made.why("site-2") == "it was idle"
    assert isinstance(asks(made, now=92.0), Introduce), "it can be had again at once"


def test_who_was_asked_never_leaves_the_link() -> None:
    asked = cell("site-2")
    answer(asked, asks(cell()))
    asked.up("site-1", 2, 0.5)
    assert asked.tick(1e6) == [] and asked.deadline() is None


def test_a_link_that_is_lost_is_not_asked_for_again_for_a_while() -> None:
    made = linked()
    made.down("site-2", 99, "another link", 2.0, is_clean=False)
    assert made.why("site-2") == ""
    made.down("site-2", 3, "closed", 2.0, is_clean=False)
    assert made.why("site-2") == "the direct link was lost: closed"
    assert [made.sent("site-2", number, 2.0) for number in range(5)] == [[]] * 5
    made.check()


def test_a_peer_that_asks_again_although_it_is_linked_gets_a_token_for_a_new_link() -> None:
    made = linked()
    given = answer(made, Introduce("site-2", "site-1", 1, "b", b"", ()), 2.0)
    assert made.objection(hello("site-2", given.token), 2.1) is None
    made.up("site-2", 4, 2.1)
    made.down("site-2", 3, "it connected again", 2.1, is_clean=False)
    assert made.why("site-2") == ""


# --- what can be dialled ------------------------------------------------------------------------

ALL = ("tcp://10.0.0.1:1", "tcp://127.0.0.1:2", "tcp://[::1]:3", "tcp://localhost:4", "ipc:///x", "inproc://y", "carrier pigeon")


@pytest.mark.parametrize(("theirs", "mine", "found"), [
    ("a/1", "a/1", ("inproc://y", "ipc:///x", "tcp://10.0.0.1:1", "tcp://127.0.0.1:2", "tcp://[::1]:3", "tcp://localhost:4")),
    ("a", "a", ("ipc:///x", "tcp://10.0.0.1:1", "tcp://127.0.0.1:2", "tcp://[::1]:3", "tcp://localhost:4")),
    ("a/1", "a/2", ("ipc:///x", "tcp://10.0.0.1:1", "tcp://127.0.0.1:2", "tcp://[::1]:3", "tcp://localhost:4")),
    ("a/1", "b/1", ("tcp://10.0.0.1:1",)),
    ("", "", ("tcp://10.0.0.1:1",))])
def test_loopback_and_files_are_dialled_on_the_same_machine_and_memory_in_the_same_process(
        theirs: str, mine: str, found: tuple[str, ...]) -> None:
    assert dialable(ALL, theirs, mine) == found
