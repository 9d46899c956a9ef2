"""The errors of downloads: each names the ref and its origin."""

from __future__ import annotations

import dataclasses

import pytest

from zdl import errors
from zdl.errors import download

CLASSES = [each for each in vars(download).values() if isinstance(each, type) and issubclass(each, download.DownloadError)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.code)
def test_every_end_of_a_pull_names_the_ref_and_its_origin_first(cls: type[download.DownloadError]) -> None:
    assert [field.name for field in dataclasses.fields(cls)][:2] == ["ref", "origin"]
    assert cls(ref="ref:01", origin="site-1").facts().items() >= {"ref": "ref:01", "origin": "site-1"}.items()


@pytest.mark.parametrize("cls", [*CLASSES, download.StreamError], ids=lambda cls: cls.code)
def test_every_one_is_had_from_the_tree_of_all_errors(cls: type[errors.ZdlError]) -> None:
    assert getattr(errors, cls.__name__) is cls and cls in errors.WIRE_CLASSES
