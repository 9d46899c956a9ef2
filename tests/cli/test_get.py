from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import click
import pytest

from zdl.cli.get import Lent, RangeParam, RefParam, check, chosen, files_of, part_of, planned
from zdl.refs import Ref, Source

from processes import PROCESS_S, Start, ended
from waiting import eventually

GIB = 1 << 30
SOURCE = Source("server", bytes(16), bytes(16), 10)
LENT = Lent("server", "policy")


def ref(name: str, kind: str = "file") -> Ref:
    """A lent file of that name."""
    return Ref(SOURCE, 0, 0, 10, kind, name=name)


def left_in(folder: Path) -> list[str]:
    """The names of all that is there."""
    return sorted(each.name for each in folder.iterdir())


# --- refs, names, places ------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "lent"), [
    ("ref:server/policy", Lent("server", "policy")), ("ref:site-1.cli-1a2b3c4d/a/b", Lent("site-1.cli-1a2b3c4d", "a/b"))])
def test_a_ref_is_a_cell_and_a_name(text: str, lent: Lent) -> None:
    assert RefParam().convert(text, None, None) == lent


@pytest.mark.parametrize("text", ["", "server/policy", "ref:server", "ref:server/", "ref:/x", "ref:a..b/x"])
def test_what_is_no_ref_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a ref; write for example ref:|is not a cell name"):
        RefParam().convert(text, None, None)


def test_one_file_goes_to_the_name_or_into_the_folder(tmp_path: Path) -> None:
    assert planned([ref("a")], tmp_path / "out").places == (tmp_path / "out",)
    assert planned([ref("a")], tmp_path).places == (tmp_path / "a",)


def test_several_files_go_into_one_folder_and_never_onto_each_other(tmp_path: Path) -> None:
    fetch = planned([ref("a"), ref("x/a"), ref("b")], tmp_path / "out")
    assert fetch.folder == tmp_path / "out"
    assert [each.name for each in fetch.places] == ["a", "1-a", "b"]
    assert fetch.bytes_total == 30


@pytest.mark.parametrize("body", [None, [], {}, {"files": 4}, {"files": []}, {"files": ["/etc/passwd"]},
                                  {"files": [ref("x", kind="array")]}])
def test_what_holds_no_files_is_told(body: object) -> None:
    with pytest.raises(click.ClickException, match="what server has published as policy are no files"):
        files_of(body, LENT)


def test_too_many_files_are_told() -> None:
    with pytest.raises(click.ClickException, match="FILES_MAX=10000"):
        files_of({"files": [ref("x")] * 10_001}, LENT)


@pytest.mark.parametrize(("items", "names"), [
    ((), "a.csv b.csv c.bin"), (("*.csv",), "a.csv b.csv"), (("c*", "a.csv"), "a.csv c.bin"), (("[bc].*",), "b.csv c.bin")])
def test_items_are_chosen_by_their_names(items: tuple[str, ...], names: str) -> None:
    refs = [ref(name) for name in ("a.csv", "b.csv", "c.bin")]
    assert [each.name for each in chosen(refs, items, LENT)] == names.split()


def test_what_no_item_matches_is_told_with_the_names_that_are_there() -> None:
    with pytest.raises(click.ClickException, match=r"--item \*.npz matches nothing in policy of server: f0, f1, .*f7 and 2 more"):
        chosen([ref(f"f{number}") for number in range(10)], ("*.npz",), LENT)


@pytest.mark.parametrize(("text", "span"), [
    ("0:10", slice(0, 10)), ("64K:1M", slice(65536, 1 << 20)), ("3:", slice(3, None)), (":4", slice(None, 4)),
    (":", slice(None, None))])
def test_a_range_is_two_sizes(text: str, span: slice) -> None:
    assert RangeParam().convert(text, None, None) == span


@pytest.mark.parametrize("text", ["", "5", "1:2:3", "x:1", "-1:2", "4:4", "5:4", ":0"])
def test_what_is_no_range_is_told(text: str) -> None:
    with pytest.raises(click.BadParameter):
        RangeParam().convert(text, None, None)


def test_a_range_is_of_one_file_and_within_it(tmp_path: Path) -> None:
    context = click.Context(click.Command("get"), info_name="get")
    part = part_of(planned([ref("a")], tmp_path), slice(3, None), context)
    assert part.places == (tmp_path / "a",) and (part.refs[0].offset, part.refs[0].length) == (3, 7)
    for refs, span, said in (([ref("a"), ref("b")], slice(0, 1), "2 files and folders are lent"),
                             ([ref("a", kind="folder")], slice(0, 1), "a folder is lent"),
                             ([ref("a")], slice(10, None), "ends behind the 10 bytes of a"),
                             ([ref("a")], slice(0, 11), "ends behind the 10 bytes of a")):
        with pytest.raises(click.UsageError, match=said):
            part_of(planned(refs, tmp_path / "out"), span, context)


def test_some_bytes_of_one_of_several_files_are_got(run: Start, server: str, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.bin", "b.bin")]
    for path in paths:
        path.write_bytes(os.urandom(100_000))
    put = run("put", *paths, "--name", "all", "--ttl", "1h", "--parent", server)
    line, out = put.line(), tmp_path / "head"
    done = ended("get", line, "--item", "b*", "--range", "1K:3K", "-o", out, "--parent", server)
    assert (done.code, done.lines) == (0, [str(out)]) and out.read_bytes() == paths[1].read_bytes()[1024:3072]
    assert ended("get", line, "--range", "1K:3K", "-o", tmp_path / "no", "--parent", server).code == 2
    assert ended("get", line, "--item", "c*", "-o", tmp_path / "no", "--parent", server).code == 1
    assert left_in(tmp_path) == ["a.bin", "b.bin", "head"]


def test_places_are_looked_at_before_a_byte_is_asked_for(tmp_path: Path) -> None:
    context = click.Context(click.Command("get"), info_name="get")
    (tmp_path / "file").write_bytes(b"")
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    two = [ref("file"), ref("b")]
    for refs, out, said in (([ref("a")], "file", "file exists; --overwrite replaces"), ([ref("a")], "link", "link exists"),
                            ([ref("a")], "absent/x", "there is no folder"), (two, "file", "is a file; 2 files need a folder"),
                            (two, "absent/x", "there is no folder"), (two, "", "file exists; --overwrite replaces")):
        with pytest.raises(click.UsageError, match=said):
            check(planned(refs, tmp_path / out), is_overwriting=False, context=context)
    check(planned([ref("a")], tmp_path / "file"), is_overwriting=True, context=context)


# --- with a fabric ------------------------------------------------------------------------------


def test_the_last_line_is_the_path_and_the_bytes_are_the_bytes(run: Start, relay: str, server: str, tmp_path: Path) -> None:
    lent = tmp_path / "policy.bin"
    lent.write_bytes(os.urandom(5_000_001))
    put = run("put", lent, "--parent", server)
    out = tmp_path / "got"
    done = ended("get", put.line(), "-o", out, "--parent", relay)
    assert (done.code, done.lines) == (0, [str(out)])
    told = done.err.splitlines()[0]
    assert told.startswith("4.77 MiB from cli-") and told.endswith(", copied on this host")
    assert out.read_bytes() == lent.read_bytes()


def test_an_empty_file_is_a_file(run: Start, server: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    put = run("put", tmp_path / "empty", "--parent", server)
    assert ended("get", put.line(), "-o", tmp_path / "got", "--parent", server).code == 0
    assert (tmp_path / "got").read_bytes() == b""
    assert put.ended().code == 0


def test_several_files_become_a_folder(run: Start, server: str, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path in paths:
        path.write_bytes(os.urandom(100_000))
    put = run("put", *paths, "--name", "all", "--parent", server)
    out = tmp_path / "out"
    done = ended("get", put.line(), "-o", out, "--parent", server, "--json")
    said = json.loads(done.out)
    assert (said["path"], said["bytes"], said["ways"]) == (str(out), 300_000, ["direct"])
    assert left_in(out) == ["a", "b", "c"]
    assert all((out / path.name).read_bytes() == path.read_bytes() for path in paths)
    assert put.ended().code == 0


def test_what_is_there_stays_without_force(run: Start, server: str, tmp_path: Path) -> None:
    lent, out = tmp_path / "lent", tmp_path / "out"
    lent.write_bytes(b"new")
    out.write_bytes(b"old")
    name = run("put", lent, "--parent", server).line()
    done = ended("get", name, "-o", out, "--parent", server)
    assert (done.code, done.out) == (2, "") and f"{out} exists; --overwrite replaces" in done.err
    assert out.read_bytes() == b"old"
    assert ended("get", name, "-o", out, "--parent", server, "--force").code == 0
    assert out.read_bytes() == b"new"


def test_a_folder_that_cannot_be_written_is_2_and_stays_empty(run: Start, server: str, tmp_path: Path) -> None:
    lent, folder = tmp_path / "lent", tmp_path / "folder"
    lent.write_bytes(b"x")
    folder.mkdir(mode=0o555)
    prefix: tuple[str, ...] = ()
    if os.access(folder, os.W_OK):  # the super-user may write anywhere, unless he gives up that right
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is needed to give up the rights of the super-user")
        prefix = ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    done = ended("get", run("put", lent, "--parent", server).line(), "-o", folder / "x", "--parent", server, prefix=prefix)
    assert done.code == 2 and f"the folder {folder} cannot be written" in done.err and done.err.count("\n") == 1
    assert left_in(folder) == []


def test_an_unknown_ref_is_3(server: str, tmp_path: Path) -> None:
    done = ended("get", "ref:server/policy", "-o", tmp_path / "x", "--parent", server)
    assert done.code == 3 and done.err.startswith("zdl: server knows no ref:server/policy; ")
    done = ended("get", "ref:nobody/policy", "-o", tmp_path / "x", "--parent", server)
    assert done.code == 3 and done.err.startswith("zdl: no route to nobody: server could not go on; ")
    assert left_in(tmp_path) == []


def large(folder: Path, size: int = GIB) -> Path:
    """A file that takes no room where it lies, and long enough to be fetched."""
    path = folder / "large"
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_get_is_gone_on_with_by_the_same_command(run: Start, server: str, tmp_path: Path,
                                                                number: signal.Signals) -> None:
    put = run("put", large(tmp_path, GIB // 4), "--parent", server)
    text, out = put.line(), tmp_path / "out"
    out.mkdir()
    get = run("get", text, "-o", out / "got", "--parent", server)
    eventually(lambda: left_in(out) == [".got.zdl-part", ".got.zdl-resume"] and (out / ".got.zdl-part").stat().st_size, PROCESS_S)
    put.signal(signal.SIGSTOP)
    get.signal(number)
    done = get.ended()
    put.signal(signal.SIGCONT)
    assert (done.code, done.out) == (-9 if number is signal.SIGKILL else 130, "")
    assert left_in(out) == [".got.zdl-part", ".got.zdl-resume"]
    assert ended("get", text, "-o", out / "got", "--parent", server).code == 0
    assert left_in(out) == ["got"] and (out / "got").stat().st_size == GIB // 4


def test_an_interrupted_get_that_was_to_begin_anew_leaves_nothing(run: Start, server: str, tmp_path: Path) -> None:
    put = run("put", large(tmp_path), "--parent", server)
    out = tmp_path / "out"
    out.mkdir()
    get = run("get", put.line(), "-o", out / "got", "--fresh", "--parent", server)
    eventually(lambda: left_in(out), PROCESS_S)
    put.signal(signal.SIGSTOP)
    get.signal(signal.SIGINT)
    assert get.ended().code == 130
    put.signal(signal.SIGCONT)
    assert left_in(out) == []


def test_a_folder_is_got_as_a_folder(run: Start, server: str, tmp_path: Path) -> None:
    lent, out = tmp_path / "shard", tmp_path / "out"
    (lent / "a" / "b").mkdir(parents=True)
    (lent / "a" / "b" / "x").write_bytes(b"deep")
    (lent / "empty").touch()
    put = run("put", lent, "--until", "2", "--parent", server)
    text = put.line()
    assert text.endswith("/shard")
    done = ended("get", text, "-o", out, "--parent", server)
    assert (done.code, done.lines) == (0, [str(out)])
    assert (out / "a" / "b" / "x").read_bytes() == b"deep" and left_in(out) == ["a", "empty"]
    (out / "own").touch()
    done = ended("get", text, "-o", out, "--parent", server)
    assert done.code == 2 and str(out / "a" / "b" / "x") in done.err and "a name that is free" in done.err
    assert ended("get", text, "-o", out, "--overwrite", "--parent", server).code == 0
    assert left_in(out) == ["a", "empty", "own"]


def test_an_interrupted_get_of_several_leaves_nothing(run: Start, server: str, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    put = run("put", tmp_path / "small", large(tmp_path), "--parent", server)
    parent = tmp_path / "parent"
    parent.mkdir()
    get = run("get", put.line(), "-o", parent / "out", "--parent", server)
    eventually(lambda: any(each.name.endswith("large.zdl-part") for each in parent.rglob("*")), PROCESS_S)
    put.signal(signal.SIGSTOP)
    get.signal(signal.SIGINT)
    assert get.ended().code == 130
    put.signal(signal.SIGCONT)
    assert left_in(parent) == []


def test_an_origin_that_is_killed_is_told_and_leaves_what_can_be_gone_on_with(run: Start, server: str, tmp_path: Path) -> None:
    put = run("put", large(tmp_path), "--parent", server)
    out = tmp_path / "out"
    out.mkdir()
    get = run("get", put.line(), "-o", out / "got", "--parent", server)
    eventually(lambda: left_in(out), PROCESS_S)
    put.signal(signal.SIGKILL)
    done = get.ended()
    assert done.code == 1 and " was lost while " in done.err and done.err.count("\n") == 1
    assert left_in(out) == [".got.zdl-part", ".got.zdl-resume"]
    for path in out.iterdir():
        path.unlink()


def test_a_file_that_changes_while_it_is_lent_is_never_delivered_as_a_mixture(run: Start, server: str, tmp_path: Path) -> None:
    lent = tmp_path / "lent"
    lent.write_bytes(b"a" * 1000)
    put = run("put", lent, "--parent", server)
    ref_text = put.line()
    lent.write_bytes(b"b" * 1001)
    done = ended("get", ref_text, "-o", tmp_path / "got", "--parent", server)
    assert done.code == 1 and "changed while it was lent" in done.err
    assert not (tmp_path / "got").exists()
