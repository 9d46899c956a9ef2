"""Filing: what dead pulls have left is swept; what may be gone on from is not, for a while."""

from __future__ import annotations

import os
from pathlib import Path

from zdl.download.filing import sweep
from zdl.download.places import locked_file


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_what_is_dead_and_of_no_use_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".dead.zdl-part").touch()
    (tmp_path / ".useful.zdl-part").touch()
    (tmp_path / ".useful.zdl-resume").touch()
    (tmp_path / "mine.part").touch()
    (tmp_path / ".victim.zdl-part").symlink_to("mine.part")
    busy = locked_file(tmp_path / ".busy.zdl-part")
    assert sweep(tmp_path, 60.0) == [tmp_path / ".dead.zdl-part"]
    assert left_in(tmp_path) == [".busy.zdl-part", ".useful.zdl-part", ".useful.zdl-resume", ".victim.zdl-part", "mine.part"]
    for name in (".useful.zdl-part", ".useful.zdl-resume"):
        os.utime(tmp_path / name, (0, 0))
    sweep(tmp_path, 60.0)
    os.close(busy)
    sweep(tmp_path, 60.0)
    assert left_in(tmp_path) == [".victim.zdl-part", "mine.part"]
    (tmp_path / ".victim.zdl-part").unlink()


def test_a_record_without_its_file_is_swept_when_it_is_old(tmp_path: Path) -> None:
    (tmp_path / ".x.zdl-resume").touch()
    assert sweep(tmp_path, 60.0) == []
    assert sweep(tmp_path, 0.0) == [tmp_path / ".x.zdl-resume"] and left_in(tmp_path) == []


def test_a_folder_that_cannot_be_looked_at_is_not_swept(tmp_path: Path) -> None:
    assert sweep(tmp_path / "missing", 0.0) == []
