"""To disk: the refs inside an unpacked object are fetched to a disk, and replaced by what is loaded from there.

Values of dicts are loaded when they are touched: each dict that holds refs becomes a `DiskDict`. What stands elsewhere, in a
list or alone, is mapped at once: that takes addresses, and memory only for the pages that are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from zdl.download.diskdict import DiskDict, Stored
from zdl.download.diskerrors import disk_error
from zdl.download.spool import Spool, SpoolSink
from zdl.download.tensors import check_here
from zdl.objects.externalize import find_refs, replace_refs
from zdl.objects.manifest import aligned
from zdl.refs import TORCH, Ref

# Pulls what these sinks want, each beginning with this ref.
Fetch = Callable[[list[tuple[Ref, SpoolSink]]], None]
# Has parts gathered by their origins, and has bytes of them kept at their places; see `zdl.download.fetching.Fetcher.scattered`.
Scatter = Callable[[Mapping[Ref, int], Callable[[int, memoryview], None]], None]


def resolve_to_disk(body: object, spool: Spool, fetch: Fetch, scatter: Scatter, *, wanted: str = TORCH) -> object:
    """The same object with what is on the disk in place of its refs; itself when it has none.

    Args:
        body: an unpacked object. Refs of folders, and of what is lent piece by piece, stay refs.
        spool: where the files are made.
        fetch: waits for the pulls.
        scatter: waits for what does not lie in one piece.
        wanted: what tensors are loaded as: see `zdl.options.PackOptions.tensors`.

    Raises:
        CannotUnpack: tensors are wanted, and torch is not installed; nothing was asked for.
        TooLarge, DiskFull, DiskFailed, OptionError: there is no room; nothing was asked for.
        DownloadError: a pull failed; nothing is left on the disk.
    """
    refs = [ref for ref in find_refs(body) if ref.kind not in ("folder", "object")]
    if not refs:
        return body
    check_here(refs, wanted=wanted)
    groups: dict[object, list[Ref]] = {}
    scattered = [ref for ref in refs if ref.strides]
    for ref in (each for each in refs if not each.strides):
        # Files one by one, as each is to be opened by itself; all else of an offer together.
        groups.setdefault(ref if ref.kind == "file" else ref.source, []).append(ref)
    sinks = [SpoolSink(spool, group) for group in groups.values()]
    fetch([(group[0], sink) for group, sink in zip(groups.values(), sinks)])
    stored = {ref: Stored(_shown(ref, wanted), sink.file, sink.place_of(ref.offset) if ref.length else 0)
              for group, sink in zip(groups.values(), sinks) for ref in group}
    return _placed(body, {**stored, **_gathered(scattered, spool, scatter, wanted)}, {})


def _gathered(refs: Sequence[Ref], spool: Spool, scatter: Scatter, wanted: str) -> dict[Ref, Stored]:
    """Parts that do not lie in one piece where they are lent; here they do."""
    places: dict[Ref, int] = {}
    end = 0
    for ref in refs:
        places[ref] = end
        end = aligned(end + ref.nbytes)
    if not refs:
        return {}
    file = spool.file(end, refs[0])

    def keep(place: int, view: memoryview) -> None:
        """Write what has been gathered."""
        try:
            file.write(place, view)
        except OSError as error:
            raise disk_error(error, refs[0], file.folder) from error

    scatter(places, keep)
    return {ref: Stored(replace(_shown(ref, wanted), strides=(), length=ref.nbytes), file, place) for ref, place in places.items()}


def _shown(ref: Ref, wanted: str) -> Ref:
    """The ref of what it is loaded as."""
    return ref if wanted == TORCH else ref.as_numpy()


def _placed(node: object, stored: dict[Ref, Stored], done: dict[int, object]) -> object:
    """The object with what is stored in the places of refs; a container that stands in several places stays one."""
    if isinstance(node, Ref):
        return stored[node].load() if node in stored else node
    if id(node) in done:
        return done[id(node)]
    placed = node
    if find_refs(node):
        if isinstance(node, dict):
            values = {key: stored[value] if isinstance(value, Ref) and value in stored else _placed(value, stored, done)
                      for key, value in node.items()}
            is_holding = any(isinstance(value, Stored) for value in values.values())
            placed = DiskDict(values) if is_holding else values
        elif type(node) in (list, tuple):
            placed = _like(node, [_placed(each, stored, done) for each in node])  # type: ignore[attr-defined]
        else:
            placed = replace_refs(node, {ref: stored[ref].load() if ref in stored else ref for ref in find_refs(node)})
    done[id(node)] = placed
    return placed


def _like(node: object, values: Sequence[object]) -> object:
    return tuple(values) if isinstance(node, tuple) else list(values)
