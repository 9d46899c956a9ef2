"""The shape that all questions share, so that one command can ask them, save what they find and compare it.

A question is a module of its own with

* a frozen dataclass that says what is measured, whose defaults are those of the command, and which refuses what cannot
  be measured with a `ValueError`; its field ``rounds`` says how often;
* ``measure(question, told=…)``, which gives one `Result` for each system in each case;
* ``BENCH``, which names both, and the flags that set the fields.

It gets its name, and its line in ``zdl bench --help``, in `zdl_bench.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from zdl_bench.report import Result
from zdl_bench.rounds import Rounds

Told = Callable[[str], None]


def silent(line: str) -> None:
    """Nobody watches."""


class Measure(Protocol):
    """Asks a question."""

    def __call__(self, question: Any, *, told: Told = ...) -> list[Result]:
        """Gives `told` lines of progress meanwhile."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of ``zdl bench``.

    Its type follows from the field: a name that ends with ``_bytes`` is a size (``64K``), a truth has a twin
    (``--no-pinned``), a tuple is written with commas.

    Attributes:
        name: without the dashes.
        field: of the question.
        help: a sentence for people.
        choices: what is allowed, also for each member of a tuple; empty allows all.
    """

    name: str
    field: str
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """A question, as the command line sees it.

    Attributes:
        question: a frozen dataclass.
        measure: asks it.
        flags: beside those for rounds and output, which all have.
    """

    question: Callable[..., Any]
    measure: Measure
    flags: tuple[Flag, ...] = ()

    def default(self, flag: Flag) -> object:
        """What the question has where the flag is not given."""
        return getattr(self.question(), flag.field)

    def rounds(self) -> Rounds:
        """How often, unless told otherwise."""
        found = self.question().rounds
        assert isinstance(found, Rounds)
        return found

    def asked(self, values: Mapping[str, object]) -> Any:
        """The question with these fields.

        Raises:
            ValueError: it cannot be asked.
        """
        return self.question(**values)

    def found(self, question: Any, *, told: Told = silent) -> list[Result]:
        """Asks; each result holds what was asked, so that a saved line can be made again."""
        options = asdict(question)
        return [replace(result, options={**options, **result.options}) for result in self.measure(question, told=told)]
