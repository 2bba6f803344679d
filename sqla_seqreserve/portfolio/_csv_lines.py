"""Reads activities from CSV: the header, the lines, and the file of rejected lines. No database.

Spreadsheets write CSV in different ways. Accepted is every form that leaves no doubt: semicolons,
tabs or bars between the fields, if they divide the header into the known names; Excel's first line
``sep=;``; names in capitals or with spaces; empty fields and lines at the end of the sheet.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, TextIO

from sqla_seqreserve.errors import ConfigurationError, InvalidRowsError, RowProblem

from .activity_rows import ActivityRow, parse_activity

# The columns that a file of rejects adds; they may stay when it is corrected and loaded.
_OF_REJECTS = ("line", "problem")
_REQUIRED = ("product_id", "portfolio_fund_id", "activity_type", "amount")
_NOTHING = ActivityRow(None, None, None, None, None)
_DELIMITERS: Final = ",;\t|"
_SEP: Final = re.compile(r'"?sep=(.)"?[,;\t|]*', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One record: the number of the line that it starts on, its fields, and its values."""

    number: int
    fields: Sequence[str]
    activity: ActivityRow
    problems: Sequence[RowProblem]


def read_lines(lines: Iterable[str]) -> tuple[list[str], Iterator[Line]]:
    """Return the header, and an iterator over the records; blank lines do not count.

    :raises ConfigurationError: the header lacks a column, or has one that is not known
    :raises InvalidRowsError: while the records are read: a quote was left open, so that the end of
        its record is unknown
    """
    source = iter(lines)
    first, before, told = next(source, ""), 0, ""
    if (excels := _SEP.fullmatch(first.rstrip("\r\n"))) is not None:
        first, before, told = next(source, ""), 1, str(excels[1])
    _check_text(first, before + 1)
    delimiter = _delimiter(first, told)
    reader = csv.reader(chain([first], source), delimiter=delimiter)
    try:
        header = _names(next(reader, []))
    except csv.Error as error:
        raise ConfigurationError(f"Line {before + 1} cannot be read as CSV: {error}") from error
    _check_header(header, before + 1)

    def records() -> Iterator[Line]:
        while True:
            number = before + reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if before + reader.line_num > number:
                    raise _left_open(number, before + reader.line_num) from error
                problem = RowProblem(number, "line", f"cannot be read as CSV: {error}")
                yield Line(number, (), _NOTHING, (problem,))
                continue
            if any(map(str.strip, fields)):
                yield _line(number, header, fields, spans=before + reader.line_num - number + 1)

    return header, records()


class Rejects:
    """Writes bad lines to a CSV file: their content, their line number, and what is wrong."""

    def __init__(self, file: TextIO, header: Sequence[str]) -> None:
        self._writer = csv.writer(file)
        self._kept = [index for index, name in enumerate(header) if name not in _OF_REJECTS]
        self._writer.writerow([*(header[index] for index in self._kept), *_OF_REJECTS])

    def write(self, line: Line, problems: Iterable[RowProblem]) -> None:
        """Write one line."""
        fields = [line.fields[index] if index < len(line.fields) else "" for index in self._kept]
        said = "; ".join(f"{problem.attribute}: {problem.problem}" for problem in problems)
        self._writer.writerow([*fields, line.number, said])


def _left_open(number: int, seen: int) -> InvalidRowsError:
    # Reading on would treat the lines in between as a part of one field, and lose them.
    problem = f"a quote opens here, and is not closed by line {seen}"
    return InvalidRowsError(
        f"Nothing was loaded: line {number}: {problem}", [RowProblem(number, "line", problem)]
    )


def _line(number: int, header: Sequence[str], fields: Sequence[str], *, spans: int) -> Line:
    if len(fields) > len(header) and not any(map(str.strip, fields[len(header) :])):
        fields = fields[: len(header)]
    if len(fields) != len(header):
        problem = f"expected {len(header)} fields, as in the header, found {len(fields)}"
        if spans > 1:
            problem += f"; a quote that opens here takes in {spans} lines"
        return Line(number, fields, _NOTHING, (RowProblem(number, "line", problem),))
    row = dict(zip(header, fields, strict=True))
    for name in _OF_REJECTS:
        row.pop(name, None)
    activity, problems = parse_activity(number, row)
    return Line(number, fields, activity, problems)


def _names(fields: Sequence[str]) -> list[str]:
    """The names of the columns, as far as there are any."""
    names = [re.sub(r"[\s-]+", "_", field.strip()).lower() for field in fields]
    while names and not names[-1]:
        names.pop()
    return names


def _delimiter(line: str, told: str) -> str:
    """The delimiter that divides the header into the required names."""
    for delimiter in told + _DELIMITERS:
        try:
            names = _names(next(csv.reader([line], delimiter=delimiter), []))
        except csv.Error:
            continue
        if set(_REQUIRED) <= set(names):
            return delimiter
    return told or ","


def _check_text(line: str, number: int) -> None:
    """Say what kind of file it is if it is no CSV, and what helps."""
    found = None
    if line.startswith("PK\x03\x04"):
        found = "a workbook or another archive"
    elif "\x00" in line:
        found = "text in UTF-16, or no text"
    if found is not None:
        raise ConfigurationError(
            f"Line {number} must name the columns, and the file is {found}; "
            'save it as "CSV UTF-8 (comma delimited)"'
        )


def _check_header(header: Sequence[str], number: int) -> None:
    known = {*ActivityRow._fields, "month", *_OF_REJECTS}
    complaints = [f"lacks {name}" for name in _REQUIRED if name not in header]
    if not {"activity_timestamp", "month"} & set(header):
        complaints.append("lacks activity_timestamp or month")
    complaints.extend(f"has {name!r}, which is not known" for name in header if name not in known)
    complaints.extend(f"has {name} twice" for name in sorted(known) if header.count(name) > 1)
    if complaints:
        raise ConfigurationError(
            f"Line {number} must name the columns product_id, portfolio_fund_id, activity_type, "
            "activity_timestamp (or month) and amount, with commas, semicolons, tabs or bars "
            f"between them; it {', '.join(complaints)}"
        )
