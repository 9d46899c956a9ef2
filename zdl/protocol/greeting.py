"""Greeting: who is welcome on a link, and what is said to those who are not."""

from __future__ import annotations

from zdl.errors import Refused
from zdl.fqcn import is_ancestor
from zdl.options import LinkOptions
from zdl.protocol.frames import PLACE_CHARS_MAX, WIRE_VERSION
from zdl.protocol.link import Link, LinkTable, Self
from zdl.protocol.messages import Hello, Role, Welcome


def objection(me: Self, options: LinkOptions, table: LinkTable, hello: Hello, *, known: Link | None, old: Link | None,
              watches: bool) -> tuple[str, str] | None:
    """Why a HELLO is not welcome: the reason and its text, or None.

    Args:
        me: who we are.
        options: limits.
        table: the links there are.
        hello: what was said.
        known: the link that it came by, if that has greeted before.
        old: the link that has the name, if it needs one.
        watches: whether this is the control lane.
    """
    name = me.fqcn
    if hello.version != WIRE_VERSION:
        return "version", f"{hello.origin} speaks version {hello.version}, {name} speaks version {WIRE_VERSION}"
    if known is not None and known.incarnation != hello.incarnation:
        return "not-allowed", f"this link belongs to {known.fqcn}"
    if hello.origin == name:
        return "name-taken", f"{name} is my own name; every cell of a fabric needs a name of its own"
    if hello.role is Role.CHILD and not is_ancestor(name, hello.origin, root=me.root):
        return "not-below", f"{hello.origin} is not a name below {name}; name it {name}.{hello.origin.split('.')[-1]}"
    if known is not None:
        return None
    if old is not None and hello.role is Role.DIRECT and (
            old.role is not Role.DIRECT or old.address and name < old.fqcn and old.incarnation == hello.incarnation):
        return "crossed", f"{name} has a link to {old.fqcn} already"
    if old is not None and is_rival(old, hello) and not watches:
        return "name-taken", taken(name, old, hello)
    if old is None and len(table) >= options.peers_max:
        return "busy", f"{name} has peers_max={options.peers_max} links"
    is_new_guest = hello.role is Role.DIRECT and not watches and not table.has_guest(
        hello.origin, hello.incarnation, hello.token)
    if is_new_guest and table.guests_count >= max(options.peers_max // 2, 1):
        return "busy", f"{name} has as many guests as it may, half of peers_max={options.peers_max}"
    return None


def regret(me: str, link: Link, old: Link | None, welcome: Welcome) -> Refused | None:
    """Why a link that is welcomed there is not wanted here any more, if it is not; `old` has the peer's name."""
    if link.expected and link.expected != welcome.origin:
        return Refused(by=welcome.origin, reason="wrong-cell", text=f"{link.address} is not {link.expected}")
    if old is None or link.role is not Role.DIRECT:
        return None
    is_same = old.incarnation == welcome.incarnation
    if old.role is not Role.DIRECT or is_same and old.fqcn < me:
        return Refused(by=me, reason="crossed", text=f"there is a link to {old.fqcn} already")
    return None


def hello_of(me: Self, options: LinkOptions, role: Role, token: bytes) -> Hello:
    """What this cell says first."""
    return Hello(me.fqcn, me.incarnation, role, options.heartbeat_s, me.data_addresses, WIRE_VERSION,
                 me.place[:PLACE_CHARS_MAX], token)


def welcome_of(me: Self, options: LinkOptions) -> Welcome:
    """What this cell answers to a HELLO that it likes."""
    return Welcome(me.fqcn, me.incarnation, options.heartbeat_s, me.data_addresses)


def is_rival(old: Link, hello: Hello) -> bool:
    """Whether another life of a cell that has its place in the tree wants the name."""
    return old.incarnation != hello.incarnation and old.role is Role.CHILD


def taken(me: str, old: Link, hello: Hello) -> str:
    """Who has the name and who wants it, for people."""
    return (f"another {old.fqcn} ({_life(old.incarnation, old.place)}) is connected to {me}; "
            f"yours is {_life(hello.incarnation, hello.place)}")


def _life(incarnation: bytes, place: str) -> str:
    """One life of a cell."""
    return f"incarnation {incarnation.hex()[:8]}" + (f", {place}" if place else "")
