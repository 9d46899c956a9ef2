"""Errors: one tree, one sentence each, and there and back over the wire."""

from __future__ import annotations

import dataclasses

import msgpack
import pytest
from hypothesis import given, strategies as st

from zdl import errors
from zdl.errors import (
    FACT_CHARS_MAX,
    WIRE_CLASSES,
    BadSelection,
    Busy,
    Cancelled,
    CannotPack,
    CannotUnpack,
    Closed,
    DecodeError,
    DeliveryError,
    DiskFailed,
    DiskFull,
    DownloadError,
    FqcnError,
    IntegrityError,
    LeaseEnded,
    NoRoute,
    ObjectError,
    OptionError,
    OriginFailed,
    OriginLost,
    PeerLost,
    ProtocolError,
    Refused,
    RemoteError,
    Stalled,
    StreamError,
    TimedOut,
    TooLarge,
    UnknownRef,
    ZdlError,
    from_wire,
    to_wire,
)

AT = "server"
VALUES = {"str": "some text", "int": 7, "float": 1.5}
SENTENCES = (
    (FqcnError(text="a..b", reason="it has an empty part"), "'a..b' is not a cell name: it has an empty part"),
    (OptionError(name="peers_max", value="0", allowed="a number above 0"),
     "option peers_max=0 is not allowed: a number above 0"),
    (DecodeError(what="kind 99 is not known"), "kind 99 is not known"),
    (ObjectError(path="batch[3]", reason="why"), "batch[3]: why"),
    (ObjectError(path="", reason="why"), "object: why"),
    (CannotPack(path="batch[3].weights", reason="a lock may not travel"),
     "cannot pack batch[3].weights: a lock may not travel"),
    (CannotPack(path="", reason="why"), "cannot pack the object: why"),
    (CannotUnpack(path="", reason="it is cut off"), "cannot unpack the body: it is cut off"),
    (CannotUnpack(path="ref", reason="why"), "cannot unpack ref: why"),
    (BadSelection(path="<Ref>", reason="why"), "cannot select from <Ref>: why"),
    (BadSelection(path="", reason="why"), "cannot select from the object: why"),
    (DeliveryError(), "delivery"),
    (NoRoute(target="site-2", at="server"), "no route to site-2: server could not go on"),
    (NoRoute(target="site-2", at="server", why="it said goodbye"),
     "no route to site-2: server could not go on (it said goodbye)"),
    (PeerLost(target="site-2", lost="site-2", at="server"), "site-2 is lost, says server"),
    (PeerLost(target="site-2.job", lost="site-2", at="server", why="silent for 6.0 s"),
     "site-2.job behind site-2 is lost, says server: silent for 6.0 s"),
    (Busy(limit="calls_max", value=3, at="server"), "server is busy: calls_max=3 is reached"),
    (TooLarge(what="the body", size=3 << 30, limit="FRAME_BYTES_MAX", value=16 << 20),
     "the body has 3.0 GiB, FRAME_BYTES_MAX=16777216 allows 16.0 MiB"),
    (TooLarge(what="it", size=2047, limit="x", value=1023), "it has 2.0 KiB, x=1023 allows 1023 B"),
    (TooLarge(what="it", size=5 << 40, limit="x", value=0), "it has 5120.0 GiB, x=0 allows 0 B"),
    (Refused(by="server", reason="version", text="1 is not 2"), "server refused (version): 1 is not 2"),
    (TimedOut(what="the reply", address="site-2", waited_s=1.23456),
     "the reply from site-2 did not come within 1.23 s"),
    (TimedOut(what="the reply", address="site-2", waited_s=30.0, why="it is suspect"),
     "the reply from site-2 did not come within 30 s (it is suspect)"),
    (RemoteError(fqcn="site-2", channel="c", topic="t", kind="ValueError", text="no"),
     "ValueError in site-2, handler c/t: no"),
    (DownloadError(ref="ref:01", origin="o"), "ref:01 of o could not be pulled"),
    (UnknownRef(ref="ref:01", origin="o"), "o knows no ref:01"),
    (LeaseEnded(ref="ref:01", origin="o", how="expired"), "ref:01 of o is no longer lent: expired"),
    (OriginLost(ref="ref:01", origin="o", bytes_done=1024, bytes_total=2048, why="silent"),
     "o was lost while ref:01 was pulled from it, after 1.0 KiB of 2.0 KiB: silent"),
    (OriginLost(ref="ref:01", origin="o"), "o was lost while ref:01 was pulled from it, after 0 B of 0 B"),
    (OriginFailed(ref="ref:01", origin="o", why="gone"), "o failed to produce ref:01: gone"),
    (errors.SourceChanged(ref="ref:01", origin="o", why="mtime"), "ref:01 of o changed while it was lent: mtime"),
    (IntegrityError(ref="ref:01", origin="o", offset=9, attempts=3),
     "ref:01 of o: the chunk at byte 9 came 3 times with a wrong digest"),
    (Stalled(ref="ref:01", origin="o", bytes_done=1, bytes_total=2, waited_s=60.0),
     "ref:01 of o stalled: nothing for 60 s after 1 B of 2 B"),
    (DiskFull(ref="ref:01", origin="o", path="/tmp/x", need=2048, free=1),
     "/tmp/x: needs 2.0 KiB, 1 B are free"),
    (DiskFailed(ref="ref:01", origin="o", path="/tmp/x", why="Input/output error"),
     "/tmp/x cannot keep ref:01 of o: Input/output error"),
    (errors.ConsumerFailed(ref="ref:01", origin="o", why="ValueError: no"),
     "ref:01 of o came, and could not be taken in: ValueError: no"),
    (StreamError(what="it broke"), "it broke"),
    (Cancelled(what="the pull"), "the pull was cancelled"),
    (Cancelled(what="the pull", why="no longer wanted"), "the pull was cancelled: no longer wanted"),
    (Closed(fqcn="site-1"), "cell site-1 is closed"),
    (errors.ForkedCell(fqcn="site-1", pid=7),
     "cell site-1 works in process 7 only, which this one was forked from: make another cell here"),
    (ZdlError(), "error"),
)


def classes() -> list[type[ZdlError]]:
    """Every error of the module."""
    return [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, ZdlError)]


def example(cls: type[ZdlError]) -> ZdlError:
    """One error of this class."""
    return cls(**{field.name: VALUES[str(field.type)] for field in dataclasses.fields(cls)})


# --- the tree -----------------------------------------------------------------------------------


def test_every_class_has_a_code_of_its_own_and_is_known_on_the_wire() -> None:
    codes = [cls.code for cls in classes()]
    assert len(set(codes)) == len(codes)
    assert set(classes()) - {ZdlError} == set(WIRE_CLASSES)
    assert all(code == code.lower() and " " not in code for code in codes)


def test_errors_are_also_what_python_programmers_catch() -> None:
    assert issubclass(FqcnError, ValueError) and issubclass(OptionError, ValueError)
    assert issubclass(CannotPack, TypeError) and issubclass(TimedOut, TimeoutError)
    assert issubclass(NoRoute, DeliveryError) and issubclass(UnknownRef, DownloadError)
    assert issubclass(DecodeError, ProtocolError) and issubclass(CannotUnpack, ObjectError)


def test_exit_codes_of_commands_are_those_of_the_design() -> None:
    special = {cls.code: cls.exit_code for cls in classes() if cls.exit_code != 1}
    assert special == {
        "bad-fqcn": 2, "bad-option": 2, "no-route": 3, "unknown-ref": 3, "lease-ended": 3, "timed-out": 4, "stalled": 4,
        "integrity": 5, "refused": 6, "cancelled": 130}


def test_an_error_is_equal_to_itself_only_and_can_be_a_key() -> None:
    one, other = Closed(fqcn="x"), Closed(fqcn="x")
    assert one != other and len({one, other}) == 2


@pytest.mark.parametrize(("error", "sentence"), SENTENCES, ids=lambda each: getattr(each, "code", ""))
def test_an_error_is_one_sentence_with_its_facts(error: ZdlError, sentence: str) -> None:
    assert str(error) == sentence
    with pytest.raises(type(error)) as caught:
        raise error
    assert str(caught.value) == sentence


def test_every_class_has_its_sentence_here() -> None:
    inherited = {ProtocolError, errors.LocalProtocolError, errors.RemoteProtocolError}
    assert {type(error) for error, _ in SENTENCES} >= set(classes()) - inherited


# --- over the wire ------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", WIRE_CLASSES, ids=lambda cls: cls.code)
def test_an_error_goes_over_the_wire_and_comes_back(cls: type[ZdlError]) -> None:
    error = example(cls)
    code, facts = msgpack.unpackb(msgpack.packb(to_wire(error)))
    back = from_wire(code, facts, at=AT)
    assert type(back) is cls
    assert back.facts() == error.facts()
    assert str(back) == str(error)


def test_a_code_that_is_not_known_arrives_as_a_remote_error() -> None:
    back = from_wire("new-in-version-2", {"limit": "x", "value": 3}, at=AT)
    assert isinstance(back, RemoteError)
    assert (back.fqcn, back.kind, back.text) == (AT, "new-in-version-2", "limit=x, value=3")


@pytest.mark.parametrize("facts", [
    {}, {"limit": "x", "value": 1}, {"limit": "x", "value": "1", "at": "y"}, {"limit": None, "value": 1, "at": "y"},
    {"limit": ["x"], "value": 1, "at": "y"}, {"limit": "x", "value": True, "at": "y"},
    {"limit": "x", "value": 1.0, "at": "y"}])
def test_facts_that_are_missing_or_of_another_type_make_it_a_remote_error(facts: dict[str, object]) -> None:
    assert isinstance(from_wire("busy", {"limit": "x", "value": 1, "at": "y"}, at=AT), Busy)
    back = from_wire("busy", facts, at=AT)
    assert isinstance(back, RemoteError) and back.kind == "busy"


def test_facts_that_this_version_does_not_know_are_left_out() -> None:
    back = from_wire("closed", {"fqcn": "site-1", "new": 1}, at=AT)
    assert isinstance(back, Closed) and back.facts() == {"fqcn": "site-1"}


def test_facts_with_defaults_may_be_missing() -> None:
    back = from_wire("no-route", {"target": "a", "at": "b"}, at=AT)
    assert isinstance(back, NoRoute) and back.why == ""


def test_the_base_class_itself_is_not_on_the_wire() -> None:
    assert isinstance(from_wire("error", {}, at=AT), RemoteError)


def test_control_characters_are_cleaned_on_the_way_out_and_in() -> None:
    _, facts = to_wire(NoRoute(target="a\x1b[31mb", at="c\nd\x00", why="\u202egnp.exe"))
    assert facts == {"target": "a [31mb", "at": "c d ", "why": " gnp.exe"}
    back = from_wire("no-route", {"target": "a\x1b[2J", "at": "b", "why": "c\r\n"}, at=AT)
    assert isinstance(back, NoRoute) and (back.target, back.why) == ("a [2J", "c  ")
    strange = from_wire("\x1b]0;evil\x07", {"na\x1bme": "va\x1blue"}, at=AT)
    assert isinstance(strange, RemoteError) and (strange.kind, strange.text) == (" ]0;evil ", "na me=va lue")


def test_long_texts_are_cut_once() -> None:
    _, facts = to_wire(StreamError(what="x" * 5000))
    cut = facts["what"]
    assert isinstance(cut, str) and len(cut) == FACT_CHARS_MAX + 1 and cut.endswith("…")
    back = from_wire("stream", facts, at=AT)
    assert to_wire(back)[1]["what"] == cut


def test_a_fact_that_is_no_plain_value_becomes_text() -> None:
    _, facts = to_wire(StreamError(what={"a": (1, 2)}))  # type: ignore[arg-type]
    assert facts == {"what": "{'a': (1, 2)}"}


FACTS = st.dictionaries(
    st.text(max_size=12) | st.sampled_from(["target", "at", "why", "ref", "origin", "value", "limit"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.lists(st.text()),
    max_size=10)


@given(st.sampled_from([cls.code for cls in WIRE_CLASSES]) | st.text(), FACTS)
def test_whatever_a_peer_reports_is_an_error_that_can_be_shown(code: str, facts: dict[str, object]) -> None:
    error = from_wire(code, facts, at=AT)
    assert isinstance(error, ZdlError)
    assert str(error).isprintable()
    assert len(str(error)) < 20 * FACT_CHARS_MAX
