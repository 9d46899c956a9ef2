"""To disk: the refs inside an unpacked object are fetched to a disk, and replaced by what is loaded from there.

Values of dicts are loaded when they are touched: each dict that holds refs becomes a `DiskDict`. What stands elsewhere, in a
list or alone, is mapped at once: that takes addresses, and memory only for the pages that are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from zdl.download.copying import Copier
from zdl.download.diskdict import DiskDict, Stored
from zdl.download.fetching import Limits
from zdl.download.puller import Puller
from zdl.download.spool import Spool, SpoolSink
from zdl.download.tensors import check_here
from zdl.objects.externalize import find_refs, replace_refs
from zdl.refs import TORCH, Ref, Source

# Pulls what these sinks want.
Fetch = Callable[[list[tuple[Source, SpoolSink]]], None]


def resolve_to_disk(body: object, spool: Spool, fetch: Fetch, *, wanted: str = TORCH) -> object:
    """The same object with what is on the disk in place of its refs; itself when it has none.

    Args:
        body: an unpacked object. Refs of folders, and of what is lent piece by piece, stay refs.
        spool: where the files are made.
        fetch: waits for the pulls.
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
    for ref in refs:  # files one by one, as each is to be opened by itself; all else of an offer together
        groups.setdefault(ref if ref.kind == "file" else ref.source, []).append(ref)
    sinks = [SpoolSink(spool, group) for group in groups.values()]
    fetch([(group[0].source, sink) for group, sink in zip(groups.values(), sinks)])
    stored = {ref: Stored(ref if wanted == TORCH else ref.as_numpy(), sink.file, sink.place_of(ref.offset) if ref.length else 0)
              for group, sink in zip(groups.values(), sinks) for ref in group}
    return _placed(body, stored, {})


def fetch_to_disk(puller: Puller, copier: Copier, wanted: Sequence[tuple[Source, SpoolSink]], limits: Limits) -> None:
    """Waits for pulls to a disk; files that are lent on this host are copied."""
    with ExitStack() as stack:
        landings = [(source, stack.enter_context(copier.landing(sink.ref, sink, limits.abort))) for source, sink in wanted]
        puller.pull(landings, timeout_s=limits.timeout_s, abort=limits.abort, progress=limits.progress, renew_s=limits.renew_s)


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
