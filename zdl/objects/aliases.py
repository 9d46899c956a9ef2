"""Aliases: a container that stands in several places travels once, and comes out as one.

The packer marks the first place, and writes a number in all others. Which containers those are is found in two steps: the
quick look of `zdl.objects.typetable.kinds_within` notices that some container is met twice, which is rare; only then is the
object walked for them.

Lists, dicts, deques, sets and values of registered types are shared so: who changes one changes it in all its places. Of a
tuple nobody can tell how many there are without asking for its identity, so it is written each time, and what is in it is
shared.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from zdl.objects.values import BRANCHES, Unbuilt, children, like

# What is one object in all its places.
SHAREABLE: Final = (dict, list, deque, set, Unbuilt)


class Aliased:
    """Stands among the types of an object in which some container is met twice."""


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """A container that stands in several places, as it is to be written."""

    node: object


def with_aliases_marked(obj: object) -> object:
    """The object with the same `Shared` in all places of a container that stands in several. No container is changed.

    Args:
        obj: an object that does not contain itself.
    """
    twice = _met_twice(obj)
    return _marked(obj, twice, {}) if twice else obj


def _met_twice(obj: object) -> set[int]:
    """The ids of the containers that stand in several places."""
    seen: set[int] = set()
    twice: set[int] = set()
    todo: list[object] = [obj]
    while todo:
        node = todo.pop()
        if isinstance(node, SHAREABLE):
            if id(node) in seen:
                twice.add(id(node))
                continue
            seen.add(id(node))
        if isinstance(node, BRANCHES):
            todo += children(node)
    return twice


def _marked(node: object, twice: set[int], done: dict[int, object]) -> object:
    if not isinstance(node, (*BRANCHES, set)):
        return node
    fresh = done.get(id(node))
    if fresh is None:
        fresh = node if isinstance(node, set) else _rebuilt(node, twice, done)
        fresh = done[id(node)] = Shared(fresh) if id(node) in twice else fresh
    return fresh


def _rebuilt(node: object, twice: set[int], done: dict[int, object]) -> object:
    """A branch with its elements marked; itself where none is."""
    olds = children(node)
    news = [_marked(old, twice, done) for old in olds]
    if all(new is old for new, old in zip(news, olds)):
        return node
    if isinstance(node, dict):
        return dict(zip(node, news))
    return Unbuilt(node.type, news[0]) if isinstance(node, Unbuilt) else like(node, news)
