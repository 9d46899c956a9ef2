from __future__ import annotations

import os
import signal
import threading

import pytest

from zdl.cell.signal import Signal
from zdl.cli.ending import Ending, Endings, Interrupted

from processes import PROCESS_S


@pytest.mark.parametrize(("number", "ending"), [
    (signal.SIGINT, Ending.INTERRUPTED), (signal.SIGTERM, Ending.TERMINATED)])
def test_a_signal_is_raised_before_collect_and_queued_after(number: signal.Signals, ending: Ending) -> None:
    before = signal.getsignal(number)
    with Endings() as endings:
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(number)
        assert caught.value.ending is ending
        endings.collect()
        signal.raise_signal(number)
        assert endings.wait(PROCESS_S) is ending
        assert signal.getsignal(number) is signal.SIG_DFL, "a second one must end the process at once"
    assert signal.getsignal(number) is before


def test_the_end_of_input_ends() -> None:
    read, write = os.pipe()
    with Endings() as endings:
        endings.put_at_eof(read)
        os.write(write, b"not yet\n")
        assert endings.wait(0.0) is Ending.TIME
        os.close(write)
        assert endings.wait(PROCESS_S) is Ending.EOF
    os.close(read)


def test_time_is_over() -> None:
    with Endings() as endings:
        assert endings.wait(0.001) is Ending.TIME


def test_work_returns_what_it_returns_and_raises_what_it_raises() -> None:
    with Endings() as endings:
        assert endings.run(lambda abort: 4) == 4
    with Endings() as endings, pytest.raises(LookupError):
        endings.run(_lost)


def test_a_signal_triggers_the_abort_signal_of_the_work() -> None:
    def work(abort: Signal) -> object:
        aborted = threading.Event()
        abort.on_trigger(aborted.set)
        os.kill(os.getpid(), signal.SIGINT)
        assert aborted.wait(PROCESS_S)
        return abort.value

    with Endings() as endings:
        assert endings.run(work) == Ending.INTERRUPTED.value


def _lost(abort: Signal) -> None:
    raise LookupError


def test_a_signal_that_another_thread_gets_ends_it_too() -> None:
    with Endings() as endings:
        endings.collect()
        other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
        threading.Timer(0.0, other.start).start()
        assert endings.wait(PROCESS_S) is Ending.TERMINATED
        other.join()


def test_what_comes_after_the_end_is_dropped() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with Endings() as endings:
        endings.put(Ending.TERMINATED)
        assert endings.wait(PROCESS_S) is Ending.TERMINATED
    endings.put(Ending.DONE)
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    with Endings() as others:  # it very likely gets the same descriptors: what was put above must not be heard here
        endings.put(Ending.DONE)
        others.put(Ending.EOF)
        assert others.wait(PROCESS_S) is Ending.EOF
