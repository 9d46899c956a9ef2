"""Files as streams: whole, verified and in their folder, or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdl.cell.codes import ReturnCode
from zdl.errors import OptionError, Refused, StreamError
from zdl.streaming.api import Context, ObjectProducer
from zdl.streaming.files import NAME, PATH, SIZE, FileFactory, FileProducer, safe_name, stream_file

from trees import Trees


@pytest.mark.row("X10")
def test_a_file_comes_whole_to_many(trees: Trees, tmp_path: Path) -> None:
    server, one, two = trees.grow("server", "site-1", "site-2")
    source = tmp_path / "model.bin"
    source.write_bytes(bytes(range(256)) * 20_000)
    for site in (one, two):
        (tmp_path / site.fqcn).mkdir()
        site.streams.register_stream_processing("files", "in", FileFactory(tmp_path / site.fqcn),
                                                stream_done_cb=lambda context: context[PATH])
    rc, result = stream_file(server.streams.stream_objects, "files", "in", ["site-1", "site-2"], source, chunk_bytes=100_000)
    places = {site.fqcn: str(tmp_path / site.fqcn / "model.bin") for site in (one, two)}
    assert (rc, result) == (ReturnCode.OK, places)
    assert all(Path(place).read_bytes() == source.read_bytes() for place in places.values())
    rc, result = stream_file(server.streams.stream_objects, "files", "in", ["site-1"], source)
    assert "there is a file named model.bin already" in str(result["site-1"])


class Lying(ObjectProducer):
    """Sends what it likes."""

    def __init__(self, *items: object) -> None:
        self._items = list(items)

    def produce(self, context: Context) -> tuple[object, float | None]:
        return (self._items.pop(0), 5) if self._items else (None, None)


@pytest.mark.row("X10")
@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "x" * 300, "a\0b", 7, None, "c:d"])
def test_a_name_from_a_peer_never_leads_out_of_the_folder(trees: Trees, tmp_path: Path, name: object) -> None:
    server, site = trees.grow("server", "site-1")
    (tmp_path / "in").mkdir()
    server.streams.register_stream_processing("files", "in", FileFactory(tmp_path / "in"))
    _, result = site.streams.stream_objects("files", "in", {NAME: name, SIZE: 1}, ["server"], Lying(b"x"))
    assert isinstance(result, dict) and isinstance(result["server"], Refused)
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]
    with pytest.raises(Refused):
        safe_name(name)


@pytest.mark.parametrize("items", [[b"abc", {"blake3": b"wrong"}], [b"abcd"], [b"ab", {"blake3": b""}], ["text"]])
def test_what_is_not_what_was_sent_is_not_left(trees: Trees, tmp_path: Path, items: list[object]) -> None:
    server, site = trees.grow("server", "site-1")
    server.streams.register_stream_processing("files", "in", FileFactory(tmp_path))
    _, result = site.streams.stream_objects("files", "in", {NAME: "a", SIZE: 3}, ["server"], Lying(*items))
    assert isinstance(result, dict) and isinstance(result["server"], StreamError)
    assert not list(tmp_path.iterdir())


def test_an_empty_file_and_one_that_replaces_another(trees: Trees, tmp_path: Path) -> None:
    server, site = trees.grow("server", "site-1")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("old")
    (tmp_path / "a").touch()
    server.streams.register_stream_processing("files", "in", FileFactory(tmp_path / "in", is_overwriting=True))
    assert stream_file(site.streams.stream_objects, "files", "in", ["server"], tmp_path / "a")[0] is ReturnCode.OK
    assert (tmp_path / "in" / "a").read_bytes() == b""


def test_what_is_no_file_or_no_folder_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        FileProducer(tmp_path / "missing", {})
    with pytest.raises(OptionError):
        FileFactory(tmp_path / "missing")
