"""Retrievers: ask a cell to stream an object, a file, a container to me."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdl.errors import NoRoute, RemoteError, StreamError
from zdl.streaming.api import Context, ObjectProducer
from zdl.streaming.containers import CONTAINER, ContainerFactory, ContainerProducer
from zdl.streaming.files import PATH, FileFactory, FileProducer
from zdl.streaming.retriever import Retriever

from trees import Trees


@pytest.mark.row("X12")
def test_objects_files_and_containers_can_be_asked_for(trees: Trees, tmp_path: Path) -> None:
    _, owner, asker = trees.grow("server", "site-1", "site-2")
    (tmp_path / "in").mkdir()
    (tmp_path / "model.bin").write_bytes(b"m" * 3_000_000)

    def find(what: object, context: Context) -> ObjectProducer | None:
        if what == "file":
            return FileProducer(tmp_path / "model.bin", context)
        if what == "state":
            return ContainerProducer({"a": 1, "b": 2}, context)
        if what == "breaks":
            raise ValueError("mine")
        return None

    Retriever(owner, owner.streams, "get", "things").serve(find)
    mine = Retriever(asker, asker.streams, "get", "things")
    place = mine.retrieve("site-1", "file", FileFactory(tmp_path / "in"))[PATH]
    assert Path(place).read_bytes() == b"m" * 3_000_000
    assert mine.retrieve("site-1", "state", ContainerFactory())[CONTAINER] == {"a": 1, "b": 2}
    with pytest.raises(StreamError, match="there is no such thing"):
        mine.retrieve("site-1", "nothing", ContainerFactory())
    with pytest.raises(RemoteError, match="mine"):
        mine.retrieve("site-1", "breaks", ContainerFactory())
    with pytest.raises(NoRoute):
        mine.retrieve("site-9", "file", ContainerFactory())
    with pytest.raises(StreamError, match="already"):
        mine.retrieve("site-1", "file", FileFactory(tmp_path / "in")) and None
    assert asker.request("site-1", "get", "things", {"name": "elsewhere"}).body == "the question has no name for the answer"
