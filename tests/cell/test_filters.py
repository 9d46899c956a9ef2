"""Filters by themselves: which run, in what order, and what comes of their verdicts. In cells: tests/parity."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from zdl.cell.filters import Answered, Filters, Passing, Point, Verdict
from zdl.errors import OptionError, Refused, RemoteError


def check(headers: Mapping[str, object]) -> None:
    if "bad" in headers:
        raise OptionError(name="headers", value="bad", allowed="others")


def made() -> Filters:
    return Filters("server", check)


def passing(point: Point = Point.INCOMING_REQUEST, body: object = 1, channel: str = "task", topic: str = "run") -> Passing:
    return Passing(point, "site-1", "server", channel, topic, body, {"h": 1}, 2)


def test_without_filters_a_message_passes_as_it_is() -> None:
    filters, message = made(), passing()
    assert not filters.is_used and not filters.wants(message.point, "task", "run")
    assert filters.passed(message) is message
    assert repr(filters) == "<Filters of server: none>"


@pytest.mark.parametrize("point", Point)
def test_a_filter_is_asked_at_its_point_only(point: Point) -> None:
    filters, seen = made(), []
    getattr(filters, point.name.lower())("task", "run")(lambda message: seen.append(message.point))
    for each in Point:
        filters.passed(passing(each))
    assert seen == [point]


@pytest.mark.parametrize("point", Point)
def test_only_what_comes_in_can_be_resolved_for_a_filter(point: Point) -> None:
    filters = made()
    decorator = getattr(filters, point.name.lower())
    if point.name.startswith("INCOMING"):
        decorator("task", "run", resolve=True)(lambda message: None)
        assert filters.wants(point, "task", "run")
    else:
        with pytest.raises(OptionError, match=f"resolve.*False for each {point.value}"):
            decorator("task", "run", resolve=True)
        assert not filters.is_used
    assert repr(decorator) == f"<Decorator of filters of each {point.value}>"


@pytest.mark.parametrize(("channel", "topic", "fits"), [
    ("task", "run", True), ("task", "*", True), ("*", "run", True), ("*", "*", True), ("task", "stop", False), ("a", "*", False)])
def test_a_star_is_any(channel: str, topic: str, fits: bool) -> None:
    filters = made()
    filters.incoming_request(channel, topic)(lambda message: None)
    assert filters.wants(Point.INCOMING_REQUEST, "task", "run") is fits
    assert not filters.wants(Point.INCOMING_REQUEST, "zdl", "run"), "the cell's own channel must be named"


def test_a_filter_does_not_say_where_a_message_goes() -> None:
    filters, message = made(), passing()
    filters.incoming_request("*", "*")(lambda message: Passing(Point.OUTGOING_REPLY, "x", "y", "c", "t", 9, {"n": 2}, 7))
    passed = filters.passed(message)
    assert passed == Passing(Point.INCOMING_REQUEST, "site-1", "server", "task", "run", 9, {"n": 2}, 2)


def test_the_body_none_is_a_change_too() -> None:
    message = passing()
    assert message.changed(body=None).body is None
    assert message.changed() is message
    assert (message.changed(headers={}).body, dict(message.changed(headers={}).headers)) == (1, {})


def test_a_body_makes_a_good_reply_of_an_error() -> None:
    error = RemoteError(fqcn="server", channel="task", topic="run", kind="ValueError", text="no")
    failed = Passing(Point.OUTGOING_REPLY, "server", "site-1", "task", "run", None, {}, 0, error)
    assert failed.changed(headers={"a": 1}).error is error
    assert failed.changed(body=None).error is None


def test_the_first_verdict_that_ends_it_is_the_last_that_is_asked() -> None:
    filters, seen = made(), []

    def note(message: Passing) -> Verdict:
        seen.append(message.body)
        return message.answer("end") if message.body == 3 else message.changed(body=message.body + 1)  # type: ignore[operator]

    for _ in range(5):
        filters.incoming_request("*", "*")(note)
    assert filters.passed(passing()) == Answered("end")
    assert seen == [1, 2, 3]


@pytest.mark.parametrize(("verdict", "reason", "text"), [
    (lambda message: message.refuse("no"), "filter", "no"), (lambda message: message.refuse("no", reason="quota"), "quota", "no"),
    (lambda message: 1 / 0, "filter-failed", "incoming request raised ZeroDivisionError"),
    (lambda message: "x", "filter-failed", "it returned a str"),
    (lambda message: message.changed(headers={"bad": 1}), "filter-failed", "OptionError"),
])
def test_whatever_is_wrong_refuses(verdict: object, reason: str, text: str) -> None:
    filters = made()
    filters.incoming_request("*", "*")(verdict)  # type: ignore[arg-type]
    with pytest.raises(Refused) as caught:
        filters.passed(passing())
    assert (caught.value.by, caught.value.reason) == ("server", reason) and text in caught.value.text


def test_a_refusal_that_is_raised_is_taken_as_it_is() -> None:
    filters, own = made(), Refused(by="guard", reason="not-allowed", text="no")

    @filters.incoming_request("*", "*")
    def guard(message: Passing) -> Verdict:
        raise own

    with pytest.raises(Refused) as caught:
        filters.passed(passing())
    assert caught.value is own


@pytest.mark.parametrize(("point", "error"), [
    (Point.OUTGOING_REQUEST, KeyboardInterrupt), (Point.INCOMING_REPLY, KeyboardInterrupt), (Point.INCOMING_REQUEST, Refused)])
def test_an_interruption_of_the_users_own_thread_stays_one(point: Point, error: type[BaseException]) -> None:
    filters = made()

    def interrupted(message: Passing) -> Verdict:
        raise KeyboardInterrupt

    getattr(filters, point.name.lower())("*", "*")(interrupted)
    with pytest.raises(error):
        filters.passed(passing(point))


def test_what_is_lent_is_pulled_once_and_only_for_who_wants_it() -> None:
    filters, seen, pulled = made(), [], []

    def pull(body: object) -> object:
        pulled.append(body)
        return "pulled"

    for resolve in (False, True, True):
        filters.incoming_request("*", "*", resolve=resolve)(lambda message: seen.append(message.body))
    passed = filters.passed(passing(), pull)
    assert isinstance(passed, Passing) and passed.body == "pulled"
    assert (seen, pulled) == ([1, "pulled", "pulled"], [1])


def test_a_removed_filter_is_removed_everywhere() -> None:
    filters, seen = made(), []

    def note(message: Passing) -> Verdict:
        seen.append(message.point)
        return None

    filters.incoming_request("*", "*")(note)
    filters.outgoing_reply("*", "*")(note)
    filters.remove(note)
    assert not filters.is_used
    filters.passed(passing())
    assert seen == []
