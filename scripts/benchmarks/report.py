"""What a suite found: tables, aims and totals, for people or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows with the same columns under a title; ``notes`` say how it was measured."""

    title: str
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Aim:
    """Something that should be reached; it depends on the machine, so it decides nothing.

    Attributes:
        what: what was measured.
        wanted: the bound.
        found: the figure.
        at_most: whether the bound is an upper one.
    """

    what: str
    wanted: float
    found: float
    at_most: bool = False

    @property
    def reached(self) -> bool:
        """Whether the figure is within the bound."""
        return self.found <= self.wanted if self.at_most else self.found >= self.wanted


@dataclass(frozen=True)
class Total:
    """A sum that must come out right, whatever the machine."""

    what: str
    expected: object
    found: object

    @property
    def agrees(self) -> bool:
        """Whether it came out right."""
        return self.expected == self.found


@dataclass
class Report:
    """All that one run found."""

    machine: Mapping[str, str]
    tables: list[Table] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    totals: list[Total] = field(default_factory=list)

    @property
    def totals_agree(self) -> bool:
        """Whether every total came out right."""
        return all(total.agrees for total in self.totals)

    def add_contest(self, title: str, rows: Sequence[Mapping[str, Any]], *notes: str) -> None:
        """Add the rows of ``compete`` and the aims in them."""
        self.tables.append(Table(title, rows, notes))
        self.aims += [
            Aim(f"{title}: ours ÷ {row['who']}", row["aim"], row["ours ÷ this"])
            for row in rows
            if row["aim"] is not None
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "machine": dict(self.machine),
            "tables": [{**asdict(table), "notes": list(table.notes)} for table in self.tables],
            "aims": [{**asdict(aim), "reached": aim.reached} for aim in self.aims],
            "totals": [
                {"what": total.what, "expected": str(total.expected), "found": str(total.found)}
                | {"agrees": total.agrees}
                for total in self.totals
            ],
            "totals_agree": self.totals_agree,
        }


def render(report: Report) -> str:
    """Return the report as text."""
    lines = ["on: " + ", ".join(f"{name} {value}" for name, value in report.machine.items())]
    for table in report.tables:
        lines += ["", table.title, *_grid(table.rows), *(f"  {note}" for note in table.notes)]
    lines += ["", "aims", *(_aim(aim) for aim in report.aims)]
    lines += ["", "totals", *(_total(total) for total in report.totals)]
    return "\n".join(lines)


def _grid(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    headings = list(rows[0])
    cells = [headings, *([_cell(row[heading]) for heading in headings] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    for line in cells:
        name, *figures = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  " + "  ".join([name, *figures]).rstrip()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3  # noqa: PLR2004 - digits
    return f"{value:,.{decimals}f}"


def _aim(aim: Aim) -> str:
    sign = "≤" if aim.at_most else "≥"
    verdict = "reached" if aim.reached else "NOT reached"
    return f"  {verdict:<11}  {aim.what}: {_cell(aim.found)} ({sign} {_cell(aim.wanted)})"


def _total(total: Total) -> str:
    if total.agrees:
        return f"  agrees     {total.what}: {total.found}"
    return f"  DISAGREES  {total.what}: expected {total.expected}, found {total.found}"
