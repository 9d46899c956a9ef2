"""Resolve: the refs inside an unpacked object are replaced by the objects they stand for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from zdl.download.sinks import MemorySink, taken
from zdl.download.tensors import fetched
from zdl.objects.externalize import find_refs, replace_refs
from zdl.refs import Ref, Source

Fetch = Callable[[list[tuple[Source, MemorySink]]], None]


def pull_refs(refs: Iterable[Ref], fetch: Fetch, wanted: str) -> Mapping[Ref, object]:
    """The objects of these refs, each offer fetched once; tensors become what is wanted."""
    return fetched(refs, lambda plain: _pulled(plain, fetch), wanted=wanted)


def _pulled(refs: Iterable[Ref], fetch: Fetch) -> Mapping[Ref, object]:
    by_source: dict[Source, list[Ref]] = {}
    for ref in refs:
        by_source.setdefault(ref.source, []).append(ref)
    sinks = {source: MemorySink(batch) for source, batch in by_source.items()}
    fetch(list(sinks.items()))
    return {ref: value for source, batch in by_source.items() for ref, value in taken(sinks[source], batch).items()}


def resolve(body: object, fetch: Fetch, wanted: str) -> object:
    """The same object with arrays and bytes in place of refs; the object itself when it has none.

    Files stay refs: they are fetched to a path, by `DownloadBroker.pull_file`. So do objects that are lent piece by piece:
    they are pulled with a consumer.
    """
    found = find_refs(body)
    refs = [ref for ref in found if ref.kind not in ("file", "folder", "object")]
    if not refs:
        return body
    return replace_refs(body, {**{ref: ref for ref in found}, **pull_refs(refs, fetch, wanted)})
