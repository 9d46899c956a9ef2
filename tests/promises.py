"""What is promised of downloads, row by row: which property of the simulations holds it, and which test with real cells shows it.

A property is a method that says in its docstring which rows it is about, and is called in every history of ``python -m sim``
(machines under a bad network), of ``python -m sim --deaths``, or of ``python -m simpieces`` (what is lent piece by piece, and its
hooks). A test is marked with the row. ``tests/test_promises.py`` keeps this true.
"""

from __future__ import annotations

from typing import NamedTuple


class Promise(NamedTuple):
    """One row of ``docs/parity.rst``.

    Attributes:
        row: its name.
        properties: ``module.Class.method`` of the simulations.
        test: ``file::test``, with real cells.
    """

    row: str
    properties: tuple[str, ...]
    test: str


PIECES, LENDINGS, WATCH = "simpieces.PieceWorld.", "simlending.Lendings.", "simwatch.Watch."

PROMISES = (
    Promise("D1", (PIECES + "_verify_hooks",),
            "download/test_producing.py::test_D1_its_pieces_come_in_order_and_its_hooks_are_called"),
    Promise("D2", ("simworld.World.settled",),
            "download/test_outcomes.py::test_it_is_finished_when_as_many_as_were_counted_have_confirmed"),
    Promise("D3", ("simworld.World.settled", PIECES + "_verify_order"),
            "download/test_transacting.py::test_the_end_is_told_in_its_order_and_the_objects_are_let_go_after_it"),
    Promise("D4", (PIECES + "_verify_hooks", "simpieces.Life._consume"),
            "download/test_producing.py::test_D4_each_object_of_a_transaction_is_told_of_its_own_receivers_when_they_have_it"),
    Promise("D5", (PIECES + "_verify_order",),
            "download/test_producing.py::test_D5_after_the_end_nobody_holds_the_object_or_what_it_has_produced"),
    Promise("D6", (WATCH + "hears",), "download/test_transacting.py::test_it_is_found_by_its_id_and_by_its_refs"),
    Promise("D7", (WATCH + "asks", "simpieces.Life._failed"),
            "parity/test_downloads.py::test_D7_a_lost_reply_is_asked_for_again_the_same_piece_and_the_count_begins_anew_with_each"),
    Promise("D8", (LENDINGS + "_verify_memory",),
            "parity/test_downloads.py::test_D8_A4_whose_last_word_or_its_answer_was_lost_says_it_again_and_is_counted_once"),
    Promise("D9", (WATCH + "_progressed", WATCH + "_check_ends", PIECES + "_progressed", PIECES + "_verify_progress"),
            "download/test_transacting.py::test_how_far_each_receiver_is_is_told_at_the_origin"),
    Promise("D10", (WATCH + "arrived", "simpieces.Life._progressed"),
            "download/test_consuming.py::test_D10_a_receiver_tells_how_far_it_is"),
    Promise("D11", (PIECES + "produces",),
            "download/test_producing.py::test_P11_D11_a_producer_that_raises_is_told_by_name_and_all_is_released"),
    Promise("D12", (LENDINGS + "_verify_stranger",),
            "download/test_transacting.py::test_strangers_do_not_complete_it_and_are_refused_where_it_is_closed"),
    Promise("D13", ("simworld.World.must_hold",),
            "download/test_transacting.py::test_objects_of_all_kinds_are_added_and_it_is_complete_when_the_receiver_has_them_all"),
    Promise("D14", (LENDINGS + "_verify_told",),
            "download/test_outcomes.py::test_an_outcome_cannot_be_changed_and_tells_the_truth_about_each"),
    Promise("D15", (WATCH + "hears", WATCH + "ended"),
            "download/test_transacting.py::test_it_is_waited_for_by_threads_and_by_coroutines"),
    Promise("D16", (LENDINGS + "_verify_told", LENDINGS + "_verify_budgets"),
            "download/test_transacting.py::test_a_receiver_that_falls_silent_ends_long_before_the_lease"),
    Promise("D17", (LENDINGS + "_verify_told", PIECES + "_verify"),
            "parity/test_downloads.py::test_D17_who_cancels_frees_what_was_held_for_him_and_the_others_go_on"),
    Promise("D18", ("simdeaths.Deaths._must_know",), "download/test_pulling.py::test_the_death_of_an_origin_ends_its_pulls_soon"),
    Promise("D19", ("simcell.SimCell.read", PIECES + "_must_not_be_released"),
            "download/test_producing.py::"
            "test_D19_deleted_while_it_produces_it_is_released_when_that_is_done_and_the_receiver_is_told_at_once"),
    Promise("D20", (LENDINGS + "_not_again",),
            "parity/test_downloads.py::test_D20_an_id_cannot_be_used_again_while_it_is_open_ends_or_is_remembered"),
    Promise("D21", ("simcell.SimCell.check_windows",),
            "parity/test_lanes.py::test_a_window_grows_with_its_path_and_keeps_its_bound"),
    Promise("D22", (PIECES + "after",),
            "download/test_producing.py::test_D22_what_is_wanted_next_is_produced_before_it_is_asked_for_within_a_bound"),
    Promise("D23", ("simworld.World.pull",),
            "parity/test_refs.py::test_a_ref_sent_on_is_the_same_ref_and_outlives_who_sent_it_on"),
    Promise("D25", (PIECES + "produces_item",),
            "download/test_producing.py::"
            "test_D25_O2_items_wanted_by_several_at_once_are_produced_once_and_dropped_when_all_have_them"),
)
