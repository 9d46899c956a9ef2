"""Objects of streams as items, and what they lend."""

from __future__ import annotations

import numpy as np
import pytest

from zdl.errors import CannotPack
from zdl.objects.externalize import contains_refs
from zdl.options import Options
from zdl.streaming.packer import Packer

from trees import Trees
from waiting import eventually


def test_what_is_packed_is_unpacked() -> None:
    packer = Packer(Options(), None)
    for value in (None, 3, "text", b"bytes", {"a": [1, (2.5, None)]}):
        parts, scope = packer.pack(value, ("server",))
        assert packer.unpack(parts) == value and scope is None and packer.resolve(value) == value
    with pytest.raises(CannotPack):
        packer.pack(object(), ())


def test_large_leaves_are_lent_to_the_receivers_and_pulled_by_them(trees: Trees) -> None:
    server, site = trees.grow("server", "site-1")
    sending, taking = Packer(site.options, site.downloads), Packer(server.options, server.downloads)
    array = np.arange(1 << 20, dtype=np.float64)
    parts, scope = sending.pack({"w": array, "round": 3}, ("server",))
    body = taking.unpack(parts)
    assert contains_refs(body) and scope is not None
    found = taking.resolve(body)
    assert isinstance(found, dict) and np.array_equal(found["w"], array) and found["round"] == 3
    eventually(lambda: not site.downloads.transactions)
