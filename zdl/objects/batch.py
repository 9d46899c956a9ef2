"""Batch: a dict with refs in it, as it comes out of a message: what is selected of it is pulled together."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Any, Final

from zdl.errors import BadSelection, OptionError
from zdl.objects.externalize import find_refs
from zdl.objects.places import Places
from zdl.refs import Holder, Ref

_NOTHING: Final = object()


class Batch(dict[Any, Any]):
    """A dict with refs in it, at any depth. It is sent on as any dict; what it holds is pulled at once.

    Arrays that are not large come with their message; a dict of such arrays is a plain dict. ``Batch(found)`` makes one of
    it that is used alike.

    ::

        model = request.body["model"]              # {"wte": <Ref>, "h.0.w": <Ref>, …}: nothing was fetched
        layer = model.select("h.3.*").pull()       # a plain dict of arrays
        model["wte"][1000:2000].pull()             # one array

    Threads: those of a dict.
    """

    __slots__ = ()

    @property
    def refs(self) -> list[Ref]:
        """The refs inside, each once, in their order."""
        return find_refs(self)

    @property
    def nbytes(self) -> int:
        """The bytes that pulling all of it brings."""
        return sum(ref.nbytes for ref in self.refs)

    def select(self, *patterns: str) -> Batch:
        """What has a path that one of these matches, at the places where it stands here.

        The path of an element is its keys and indices from here on, joined by dots: ``model.h.3.w``. In a pattern ``*``
        is any text, dots included, ``?`` any character, ``[ab]`` one of these. An element that matches is taken whole;
        of one that does not, what matches inside it: of a list those elements, closed up.

        Raises:
            BadSelection: nothing matches.
        """
        matches = [re.compile(translate(pattern)).match for pattern in patterns]
        found = _matching(self, "", lambda path: any(match(path) for match in matches))
        if not isinstance(found, Batch):
            raise BadSelection(path="", reason=f"nothing of it matches {' or '.join(map(repr, patterns)) or 'no pattern'}")
        return found

    def pull(self, into: object = None, *, timeout_s: float | None = None, abort: Any = None,
             progress: Callable[[int, int], object] | None = None) -> object:
        """A plain dict with what its refs stand for in their places; files stay refs. See `DownloadBroker.pull`."""
        if self.refs:
            return self._held("pull").pull(self, into, timeout_s=timeout_s, abort=abort, progress=progress)
        if into is None:
            return dict(self)
        places = Places()
        found = places.put(self, into)
        places.finish()
        return found

    def release(self) -> None:
        """Tell the origins that this cell has what it wants of their offers; see `DownloadBroker.release`."""
        if self.refs:
            self._held("release").release(self.refs)

    def _held(self, what: str) -> Holder:
        for ref in self.refs:
            if ref.holder is not None:
                return ref.holder
        raise OptionError(name="batch", value=f"{len(self)} elements", allowed=(
            f"no ref in it is bound to a cell: use cell.downloads.{what}(batch)"))


def _matching(node: object, path: str, is_wanted: Callable[[str], bool]) -> object:
    """What is wanted of an element, or `_NOTHING`."""
    if path and is_wanted(path):
        return node
    within = f"{path}." if path else ""
    if isinstance(node, dict):
        found = Batch()
        for key, child in node.items():
            part = _matching(child, f"{within}{key}", is_wanted)
            if part is not _NOTHING:
                found[key] = part
        return found or _NOTHING
    if isinstance(node, (list, tuple)):
        parts = [_matching(child, f"{within}{index}", is_wanted) for index, child in enumerate(node)]
        some = [part for part in parts if part is not _NOTHING]
        return (some if isinstance(node, list) else tuple(some)) or _NOTHING
    return _NOTHING
