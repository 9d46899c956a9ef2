"""The contracts, and the words of a context."""

from __future__ import annotations

import pytest

from zdl.streaming.api import LOCAL_KEYS, ConsumerFactory, ObjectConsumer, ObjectProducer, StreamContextKey


def test_the_keys_of_a_context_are_texts_that_no_user_takes_by_chance() -> None:
    assert all(key.startswith("__") and key in LOCAL_KEYS for key in StreamContextKey)


def test_the_contracts_ask_for_what_cannot_be_left_out_and_no_more() -> None:
    for contract, needed in ((ObjectProducer, {"produce"}), (ObjectConsumer, {"consume"}), (ConsumerFactory, {"get_consumer"})):
        assert contract.__abstractmethods__ == needed
        with pytest.raises(TypeError):
            contract()
