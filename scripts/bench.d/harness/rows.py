"""Rows: one measurement each, with what it is compared to and the bar it has to reach."""

import dataclasses
import json
import sys

from .programs import CannotMeasure

OK, SHORT, NO_BAR, UNMEASURED = "ok", "short", "-", "unmeasured"


@dataclasses.dataclass
class Row:
    """`ours` and `other` in `unit`; `ratio` is ours / other; `note` says how it came about."""

    what: str
    unit: str
    ours: float | None
    other: float | None = None
    against: str = ""
    bar: str = ""
    status: str = NO_BAR
    note: str = ""

    @property
    def ratio(self):
        return self.ours / self.other if self.ours is not None and self.other else None

    def as_json(self):
        return {**dataclasses.asdict(self), "ratio": self.ratio}


def at_least(times, row):
    """Ours must be `times` the other or more."""
    row.bar = f">= {times:g} x"
    row.status = OK if row.ratio is not None and row.ratio >= times else SHORT
    return row


def at_most(row):
    """Ours must not be more than the other, which is a limit."""
    row.bar = f"<= {figure(row.other)}"
    row.status = OK if row.ours <= row.other else SHORT
    return row


def below(row):
    """Ours must be less than the other, which is a limit."""
    row.bar = f"< {figure(row.other)}"
    row.status = OK if row.ours < row.other else SHORT
    return row


def unmeasured(what, why):
    """Something that should have been measured."""
    return Row(what, "", None, status=UNMEASURED, note=str(why))


def collect(name, measuring, out):
    """All rows of a benchmark; prints each as it comes, with its note below, unless `out` is None."""
    found = []
    if out:
        print(f"\n{name:<46} {'ours':>10} {'peer/limit':>10} {'ratio':>6}  {'bar':<10} ", file=out, flush=True)
    try:
        for row in measuring:
            found.append(row)
            if out:
                print(line(row), file=out, flush=True)
    except CannotMeasure as error:
        found.append(unmeasured(name, error))
        if out:
            print(line(found[-1]), file=out, flush=True)
    return found


def line(row):
    """A row as text."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    what = f"{row.what} [{row.unit}]" if row.unit else row.what
    text = f"  {what:<44} {figure(row.ours):>10} {figure(row.other):>10} {ratio:>6}  {row.bar:<10} {row.status}"
    notes = [part for part in (f"against {row.against}" if row.against else "", row.note) if part]
    return "\n".join([text.rstrip(), *(f"      {note}" for note in notes)])


def figure(number):
    """Three digits that count."""
    if number is None:
        return ""
    if number == int(number) and abs(number) < 1e4:
        return f"{int(number)}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}" if abs(number) < 100 else f"{number:.1f}"


def verdict(found):
    """How many rows reached what they should."""
    count = {status: sum(row.status == status for row in found) for status in (OK, SHORT, UNMEASURED)}
    return f"\n{count[OK]} ok, {count[SHORT]} short, {count[UNMEASURED]} unmeasured"


def exit_status(found):
    """2 when something could not be measured, 1 when a row is short, 0 otherwise."""
    if any(row.status == UNMEASURED for row in found):
        return 2
    return 1 if any(row.status == SHORT for row in found) else 0


def print_json(document):
    json.dump(document, sys.stdout, indent=2)
    print()
