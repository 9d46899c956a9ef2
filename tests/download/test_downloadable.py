"""Downloadable: the contract alone: what may be left out, and what is let go."""

from __future__ import annotations

import pytest

from zdl.download.downloadable import Downloadable, DownloadStatus, Produced, ProduceRC, State, TransactionDoneStatus


class Words(Downloadable):
    """Its words, one by one."""

    def produce(self, state: State, requester: str) -> Produced:
        at = state.get("at", 0)
        if at >= len(self.base_obj):
            return ProduceRC.EOF, None, {}
        return ProduceRC.OK, self.base_obj[at], {"at": at + 1}


def test_produce_is_all_that_must_be_written() -> None:
    words = Words(["a", "b"])
    words.set_transaction("tx", "ref")
    first = words.produce({}, "site-1")
    assert first == (ProduceRC.OK, "a", {"at": 1})
    assert words.produce(first[2], "site-1") == (ProduceRC.OK, "b", {"at": 2})
    assert words.produce({"at": 2}, "site-1")[0] == ProduceRC.EOF
    words.downloaded_to_one("site-1", DownloadStatus.SUCCESS)
    words.downloaded_to_all()
    words.transaction_done("tx", TransactionDoneStatus.FINISHED)
    assert words.base_obj == ["a", "b"]
    words.release()
    assert words.base_obj is None
    with pytest.raises(TypeError, match="abstract"):
        Downloadable()  # type: ignore[abstract]


def test_the_words_are_the_ancestors() -> None:
    assert (ProduceRC.OK, ProduceRC.ERROR, ProduceRC.EOF) == ("ok", "error", "eof")
    assert (DownloadStatus.SUCCESS, DownloadStatus.FAILED) == ("success", "failed")
    done = TransactionDoneStatus
    assert (done.FINISHED, done.TIMEOUT, done.DELETED) == ("finished", "timeout", "deleted")
