"""What do ten thousand open transactions cost their origin, and how soon is it known that one has begun, or has ended?

One origin lends ten thousand small arrays, each to four named leaves, which have pulled a part of each, so that every ref is
held by four receivers that have begun. Then, beside what zdl promises, and that promise is the ceiling of each case:

* ``memory``: bytes of the origin's process for each receiver of each ref;
* ``idle``: how much of a core the origin takes while nobody does anything, beside a cell that lends nothing;
* ``expiry``: how long after the end of its lease a transaction has ended, while all others stay open; and when a thousand
  leases end at the same moment;
* ``first_byte``: from the call of ``pull`` to the first byte in place, beside the request and reply of the same two cells;
* ``end_known``: from the moment at which the last receiver has all bytes in place, and confirms them, to the moment at which the
  origin knows that the transaction has ended (``zdl``), and to the return of its ``wait`` (``waited``), beside the time that a
  message takes one way: half of a request and its reply.

These last two are measured one after the other without a pause; while ten thousand others are open (``among_many``), and after
a pause (``rested``): each compared with requests under the same conditions, and given as if those took as long as without.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from zdl_bench.processes import Child
from zdl_bench.question import Bench, Flag, Told, silent
from zdl_bench.report import Environment, Result
from zdl_bench.rounds import Case, Rounds, Sample, results

ORIGIN, LEAVES = "zdl_bench.transactions_roles:Origin", "zdl_bench.transactions_roles:Leaves"
# What zdl promises.
PROMISED_BYTES = 2048.0
PROMISED_CORE_PERCENT = 1.0
PROMISED_LATE_S = 0.2
# After this the threads and the processor rest; requests suffer from that as pulls do.
PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class TransactionsQuestion:
    """What to measure.

    Attributes:
        count: open transactions.
        leaves: receivers of each, by name.
        idle_s: how long nobody does anything.
        expiring: leases that end one after the other, and again so many that end at once.
        times: how often a pull, a request and an end are timed in each round.
        rounds: how often.
    """

    count: int = 10_000
    leaves: int = 4
    idle_s: float = 5.0
    expiring: int = 1000
    times: int = 200
    rounds: Rounds = Rounds(3, 0)

    def __post_init__(self) -> None:
        for name in ("count", "leaves", "expiring", "times"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        if self.idle_s <= 0:
            raise ValueError(f"idle_s is {self.idle_s}; more than 0 is needed")


CASES = (
    Case("transactions", "memory per ref and receiver", "B", "lower", ("promised",)),
    Case("transactions", "idle", "% of a core", "lower", ("promised",)),
    Case("transactions", "expiry after the lease, at most", "s", "lower", ("promised",)),
    Case("transactions", "first byte of a pull", "us", "lower", ("request_reply",)),
    Case("transactions", "end known after the last confirmation", "us", "lower", ("one_way",)),
)

# By case and system, what one round has given.
Found = Mapping[str, Mapping[str, Sample]]


def measure(question: TransactionsQuestion = TransactionsQuestion(), *, told: Told = silent) -> list[Result]:
    """Measures what was asked for; every round has processes of its own.

    Raises:
        PeerFailed: a measured process failed.
    """
    rounds: list[Found] = []
    for number in range(-question.rounds.warm_ups, question.rounds.count):
        found = measured(question, told)
        if number >= 0:
            rounds.append(found)
    environment = Environment.found()
    return [each for case in CASES
            for each in results(_named(case, question), [found[case.name] for found in rounds], environment)]


def measured(question: TransactionsQuestion, told: Told) -> Found:
    """One round."""
    with ExitStack() as stack:
        origin, leaves = (stack.enter_context(Child(role)) for role in (ORIGIN, LEAVES))
        address = origin.ask("start")["address"]
        names = leaves.ask("start", address=address, count=question.leaves)["names"]
        origin.ask("warm_up")
        times, rested = (leaves.ask("times", count=question.times, pause_s=pause_s) for pause_s in (0.0, PAUSE_S))
        empty = origin.ask("idle", seconds=question.idle_s)["cpu_s"]
        before = origin.ask("memory")["rss_bytes"]
        opened = origin.ask("open", count=question.count, receivers=names)
        pulled_s = leaves.ask("begin_all", count=question.count)["seconds"]
        begun = origin.ask("memory")
        receivers = question.count * question.leaves
        if begun["receivers"] != receivers:
            raise ValueError(f"{begun['receivers']} receivers have begun, {receivers} should have")
        idle = origin.ask("idle", seconds=question.idle_s)["cpu_s"]
        late = origin.ask("expire", count=question.expiring)
        among = leaves.ask("times", count=question.times, pause_s=0.0)
    told(f"{question.count} opened in {opened['seconds']:.1f} s, begun by all in {pulled_s:.1f} s")
    return {
        CASES[0].name: {
            "promised": Sample(PROMISED_BYTES),
            "zdl": Sample((begun["rss_bytes"] - before) / receivers,
                          {"before_they_begin_bytes": opened["rss_bytes"] / receivers})},
        CASES[1].name: {
            "promised": Sample(PROMISED_CORE_PERCENT),
            "lends_nothing": Sample(_percent(empty, question)),
            "zdl": Sample(_percent(idle, question), {"more_than_without_percent": max(0.0, idle - empty) / question.idle_s * 100})},
        CASES[2].name: {
            "promised": Sample(PROMISED_LATE_S),
            "one_by_one": Sample(late["one_by_one_s"]),
            "all_at_once": Sample(late["all_at_once_s"])},
        CASES[3].name: {
            "request_reply": Sample(times["request_us"]),
            "zdl": Sample(times["first_byte_us"], {"cold_us": times["cold_us"]}),
            "among_many": Sample(among["first_byte_us"] / among["request_us"] * times["request_us"]),
            "rested": Sample(rested["first_byte_us"] / rested["request_us"] * times["request_us"])},
        CASES[4].name: {
            "one_way": Sample(times["request_us"] / 2),
            "zdl": Sample(times["told_us"]),
            "waited": Sample(times["waited_us"]),
            "among_many": Sample(among["told_us"] / among["request_us"] * times["request_us"]),
            "rested": Sample(rested["told_us"] / rested["request_us"] * times["request_us"])},
    }


def _percent(cpu_s: float, question: TransactionsQuestion) -> float:
    """Of a core; a clock that has not moved says that it was less than it can tell."""
    return max(cpu_s, 1e-6) / question.idle_s * 100


def _named(case: Case, question: TransactionsQuestion) -> Case:
    name = f"{case.name}, {question.count}x{question.leaves} tcp"
    return Case(case.bench, name, case.unit, case.better, case.ceilings)


BENCH = Bench(TransactionsQuestion, measure, (
    Flag("count", "count", "Open transactions."),
    Flag("leaves", "leaves", "Receivers of each."),
    Flag("idle-s", "idle_s", "How long nobody does anything."),
    Flag("expiring", "expiring", "Leases that end one after the other, and again so many at once."),
    Flag("times", "times", "How often a request, a pull and an end are timed in each round.")))
