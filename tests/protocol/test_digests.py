"""Digests: of parts as one, keyed where they are quick; and what is lent, unless it says more."""

from __future__ import annotations

import os
from collections.abc import Sequence

from blake3 import blake3

from zdl.protocol.digests import Readable, digest_for, digest_of
from zdl.protocol.frames import DIGEST_BYTES, QUICK_DIGEST_BYTES
from zdl.protocol.messages import Verify

SECRET = bytes(range(16))
DATA = os.urandom(1000)


def test_a_digest_is_that_of_all_parts_as_one() -> None:
    parts = [DATA[:10], memoryview(DATA)[10:]]
    assert digest_of(Verify.BLAKE3, SECRET, parts) == blake3(DATA).digest()
    assert digest_of(Verify.XXH3, SECRET, parts) == digest_of(Verify.XXH3, SECRET, [DATA])
    assert digest_of(Verify.NONE, SECRET, parts) == b""


def test_the_quick_digest_is_keyed_and_both_have_the_length_that_goes_on_the_wire() -> None:
    assert digest_of(Verify.XXH3, SECRET, [DATA]) != digest_of(Verify.XXH3, bytes(reversed(SECRET)), [DATA])
    assert len(digest_of(Verify.XXH3, SECRET, [DATA])) == QUICK_DIGEST_BYTES
    assert len(digest_of(Verify.BLAKE3, SECRET, [DATA])) == DIGEST_BYTES
    assert digest_for(Verify.NONE, SECRET) is None


def test_what_is_lent_knows_no_digest_and_gives_what_it_reads_unless_it_says_so() -> None:
    class Plain(Readable):
        """Says only what it must."""

        may_block = False

        def read(self, offset: int, length: int) -> Sequence[bytes]:
            return [DATA[offset:offset + length]]

    plain = Plain()
    assert plain.as_is(3, 5) == plain.read(3, 5) == [DATA[3:8]]
    assert plain.noted(3, 5, Verify.BLAKE3) is None
