"""The first-generation API, with real cells: a producer per transaction, callbacks per site, idle time, files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from zdl.assembly import Cell
from zdl.cell.signal import Signal
from zdl.download.consumer import Consumer
from zdl.download.downloadable import Produced, ProduceRC, State
from zdl.download.v1 import FileDownloader, ObjDownloader, Producer, download_file, download_object
from zdl.errors import OptionError
from zdl.observe.progress import TransferProgress

from trees import Trees
from waiting import PATIENCE_S, eventually

TIMEOUT_S = 60.0


class Letters(Producer):
    """The letters of an object, one by one; notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, str]] = []

    def produce(self, ref_id: str, obj: Any, state: State, requester: str) -> Produced:
        self.asked.append((ref_id, obj, requester))
        at = state.get("at", 0)
        if at >= len(obj):
            return ProduceRC.EOF, None, {}
        if obj[at] == "!":
            return ProduceRC.ERROR, None, {}
        return ProduceRC.OK, obj[at], {"at": at + 1}


class Word(Consumer):
    """Puts the letters together."""

    supports_pipelining = True

    def __init__(self) -> None:
        self.word = ""
        self.ends: list[tuple[str, ...]] = []

    def consume(self, ref_id: str, state: State, data: Any) -> State:
        self.word += data
        return state

    def download_completed(self, ref_id: str) -> None:
        self.ends.append(("completed",))

    def download_failed(self, ref_id: str, reason: str) -> None:
        self.ends.append(("failed", reason))


@pytest.fixture
def three(trees: Trees) -> tuple[Cell, ...]:
    return trees.grow("server", "site-1", "site-2")


def pulled(cell: Cell, ref_id: str, **how: Any) -> Word:
    word = Word()
    download_object("server", ref_id, 10.0, cell.downloads, word, **how)
    return word


@pytest.mark.row("V1", "V3")
def test_V1_V3_one_producer_serves_all_objects_and_each_site_is_told_of_once(three: tuple[Cell, ...]) -> None:
    server, one, two = three
    downloader, letters = ObjDownloader(server.downloads), Letters()
    told: list[tuple[Any, ...]] = []
    tx_id = downloader.new_transaction(letters, TIMEOUT_S)
    assert tx_id.startswith("T")
    refs = [downloader.add_download_object(tx_id, word, obj_downloaded_cb=lambda *args, **kw: told.append((*args, kw)), note=word)
            for word in ("cat", "dog")]
    assert [pulled(one, ref_id).word for ref_id in refs] == ["cat", "dog"]
    assert pulled(two, refs[0]).word == pulled(two, refs[0]).word == "cat"
    expected = [(refs[0], "site-1", "success", "cat", {"note": "cat"}), (refs[1], "site-1", "success", "dog", {"note": "dog"}),
                (refs[0], "site-2", "success", "cat", {"note": "cat"})]
    eventually(lambda: told == expected)
    assert {(ref_id, obj) for ref_id, obj, _ in letters.asked} == set(zip(refs, ("cat", "dog")))
    downloader.shutdown()
    eventually(lambda: server.downloads.transactions == [])
    assert told == expected, "who never began an object has not failed"


@pytest.mark.row("V3", "V4")
def test_V3_V4_idle_for_too_long_it_ends_and_its_callback_gets_the_objects(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    told: list[tuple[Any, ...]] = []
    tx_id = downloader.new_transaction(Letters(), 1.0, timeout_cb=lambda *args, **kw: told.append((*args, kw)), note=1)
    quiet = downloader.add_download_object(tx_id, "never asked for")
    busy = downloader.add_download_object(tx_id, "x" * 2000)
    until = time.monotonic() + 2.0
    while time.monotonic() < until:  # one object is busy: the other one is not idle
        assert len(pulled(one, busy).word) == 2000
    assert told == [] and pulled(one, quiet).word == "never asked for"
    eventually(lambda: told == [(tx_id, ["never asked for", "x" * 2000], {"note": 1})])
    late = pulled(one, quiet)
    assert late.word == "" and "no longer lent: expired" in late.ends[0][1]


@pytest.mark.row("V2")
def test_V2_a_transaction_is_deleted_with_or_without_its_callback(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    told: list[tuple[Any, ...]] = []
    quietly, loudly, left = (downloader.new_transaction(
        Letters(), TIMEOUT_S, tx_id=name, timeout_cb=lambda *args: told.append(args)) for name in ("quietly", "loudly", "left"))
    ref_id = downloader.add_download_object(loudly, "word")
    downloader.delete_transaction(quietly)
    downloader.delete_transaction(loudly, call_cb=True)
    downloader.delete_transaction("no such one")
    eventually(lambda: told == [("loudly", ["word"])])
    assert "no longer lent: deleted" in pulled(one, ref_id).ends[0][1]
    downloader.shutdown()
    eventually(lambda: told[1:] == [("left", [])])
    assert left == "left"


@pytest.mark.row("V2")
def test_V2_ids_that_are_taken_are_refused_and_unknown_ones_too(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    tx_id = downloader.new_transaction(Letters(), TIMEOUT_S, tx_id="mine")
    assert downloader.add_download_object(tx_id, "word", ref_id="a-word") == "a-word"
    assert pulled(one, "a-word").word == "word"
    for what in (lambda: downloader.new_transaction(Letters(), TIMEOUT_S, tx_id="mine"),
                 lambda: downloader.add_download_object(tx_id, "other", ref_id="a-word"),
                 lambda: downloader.add_download_object("other", "other"),
                 lambda: downloader.new_transaction(Letters(), 0.0)):
        with pytest.raises(OptionError):
            what()
    downloader.delete_transaction(tx_id)
    eventually(lambda: "knows no" in pulled(one, "a-word").ends[0][1])
    with pytest.raises(OptionError, match="was not used before"):
        downloader.new_transaction(Letters(), TIMEOUT_S, tx_id="mine")
    assert downloader.add_download_object(downloader.new_transaction(Letters(), TIMEOUT_S), "w", ref_id="a-word") == "a-word"
    downloader.shutdown()


@pytest.mark.row("V1")
def test_V1_how_it_ended_the_consumer_is_told_and_nothing_is_raised(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    told: list[tuple[Any, ...]] = []
    tx_id = downloader.new_transaction(Letters(), TIMEOUT_S)
    bad = downloader.add_download_object(tx_id, "ab!", obj_downloaded_cb=lambda *args: told.append(args))
    assert "failed to produce" in pulled(one, bad, optional=True).ends[0][1]
    abort = Signal()
    abort.trigger("enough")
    assert "enough" in pulled(one, bad, abort_signal=abort).ends[0][1]
    assert told == []
    downloader.delete_transaction(tx_id)
    eventually(lambda: told == [(bad, "site-1", "failed", "ab!")])
    with pytest.raises(OptionError, match="secure"):
        pulled(one, bad, secure=True)


def test_what_the_end_of_a_consumer_raises_is_raised(three: tuple[Cell, ...]) -> None:
    class Full(Word):
        def download_completed(self, ref_id: str) -> None:
            raise OSError("no room")

    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    ref_id = downloader.add_download_object(downloader.new_transaction(Letters(), TIMEOUT_S), "word")
    full = Full()
    with pytest.raises(OSError, match="no room"):
        download_object("server", ref_id, 10.0, one.downloads, full)
    assert [each[0] for each in full.ends] == ["failed"]
    events: list[TransferProgress] = []
    pulled(one, ref_id, progress_cb=events.append, progress_interval=0.0, max_retries=0)
    assert [each.items_done for each in events] == [0, 1, 2, 3, 4, 4]


def test_callbacks_may_use_the_downloader(three: tuple[Cell, ...]) -> None:
    server, one, _ = three
    downloader = ObjDownloader(server.downloads)
    made: list[str] = []

    def again(*args: Any) -> None:
        made.append(downloader.new_transaction(Letters(), TIMEOUT_S))
        downloader.add_download_object(made[-1], "more")

    tx_id = downloader.new_transaction(Letters(), TIMEOUT_S, timeout_cb=again)
    ref_id = downloader.add_download_object(tx_id, "word", obj_downloaded_cb=again)
    assert pulled(one, ref_id).word == "word"
    eventually(lambda: len(made) == 1)
    downloader.delete_transaction(tx_id, call_cb=True)
    eventually(lambda: len(made) == 2)
    downloader.shutdown()


# --- files --------------------------------------------------------------------------------------

@pytest.mark.row("V5")
def test_V5_a_file_is_lent_and_fetched_to_a_new_name(three: tuple[Cell, ...], tmp_path: Path) -> None:
    server, one, _ = three
    content = os.urandom((11 << 20) + 7)
    source = tmp_path / "model.bin"
    source.write_bytes(content)
    downloader = FileDownloader(server.downloads)
    told: list[tuple[Any, ...]] = []
    tx_id = downloader.new_transaction(TIMEOUT_S, timeout_cb=lambda *args, **kw: told.append((*args, kw)), note=1)
    ref_id = downloader.add_file(tx_id, str(source), file_downloaded_cb=lambda *args, **kw: told.append((*args, kw)), note=2)
    folder = tmp_path / "in"
    folder.mkdir()
    error, path = download_file("server", ref_id, 10.0, one.downloads, str(folder))
    assert error is None and Path(path).parent == folder and Path(path).read_bytes() == content
    eventually(lambda: told == [(ref_id, "site-1", "success", str(source), {"note": 2})])
    downloader.delete_transaction(tx_id, call_cb=True)
    eventually(lambda: told[1:] == [(tx_id, [str(source)], {"note": 1})])


@pytest.mark.row("V5")
def test_V5_a_file_that_changes_is_never_half_there(three: tuple[Cell, ...], tmp_path: Path) -> None:
    server, one, _ = three
    source = tmp_path / "model.bin"
    source.write_bytes(b"x" * (30 << 20))
    downloader = FileDownloader(server.downloads)
    tx_id = downloader.new_transaction(TIMEOUT_S)
    ref_id = downloader.add_file(tx_id, str(source), "the-model")
    with open(source, "r+b") as file:
        file.truncate(1 << 20)
    folder = tmp_path / "in"
    folder.mkdir()
    error, path = download_file("server", ref_id, 10.0, one.downloads, str(folder))
    assert error is not None and "changed while it was lent" in error
    assert not Path(path).exists() and list(folder.iterdir()) == []
    empty = tmp_path / "empty"
    empty.touch()
    error, path = download_file("server", downloader.add_file(tx_id, str(empty)), 10.0, one.downloads, str(folder))
    assert error is None and Path(path).read_bytes() == b""
    downloader.shutdown()


@pytest.mark.row("V5")
def test_V5_what_is_no_file_or_no_folder_is_refused(three: tuple[Cell, ...], tmp_path: Path) -> None:
    server, one, _ = three
    downloader = FileDownloader(server.downloads)
    tx_id = downloader.new_transaction(TIMEOUT_S)
    with pytest.raises(OptionError, match="missing"):
        downloader.add_file(tx_id, str(tmp_path / "missing"))
    with pytest.raises(OptionError, match="location"):
        download_file("server", "R" + "0" * 64, 10.0, one.downloads, str(tmp_path / "missing"))
    error, path = download_file("server", "R" + "0" * 64, 10.0, one.downloads, str(tmp_path))
    assert error is not None and not Path(path).exists()
    downloader.shutdown()


def test_many_sites_pull_at_once(three: tuple[Cell, ...]) -> None:
    server, *sites = three
    downloader = ObjDownloader(server.downloads)
    told: list[str] = []
    ref_id = downloader.add_download_object(downloader.new_transaction(Letters(), TIMEOUT_S), "word" * 500,
                                            obj_downloaded_cb=lambda ref_id, site, status, obj: told.append(site))
    words: list[str] = []
    threads = [threading.Thread(target=lambda site=site: words.append(pulled(site, ref_id).word)) for site in sites * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert words == ["word" * 500] * 6
    eventually(lambda: sorted(told) == ["site-1", "site-2"])
    downloader.shutdown()
