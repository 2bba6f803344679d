"""Makes SQLAlchemy send fewer statements for an INSERT of many rows.

Such an INSERT is sent as a whole where SQLAlchemy would make pages of ``VALUES``: on psycopg2, and
on every driver where values come back (RETURNING). SQLAlchemy asks the dialect for the pages, sends
one after the other, and collects what each returns. Here the dialect returns a single page,
:class:`Whole`: the statement of one row with the parameters of all. Events, log, errors and the
result are SQLAlchemy's own. Read in 2.0.10 to 2.1.9.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Dialect
from sqlalchemy.sql import compiler as _compiler

_METHOD: Final = "_deliver_insertmanyvalues_batches"
_Page: Final = getattr(_compiler, "_InsertManyValuesBatch", None)
"""One page; before 2.0.10 it had no name, and the rows of a page no certain order."""


class Whole(list[Any]):
    """The parameters of all rows of an INSERT that would go in pages.

    :param given: the same, as the execution context has them.
    """

    def __init__(self, given: Sequence[Any], context: Any, pages: Callable[[], Iterator[Any]]):
        super().__init__(given)
        self.given = given
        self.context = context
        self.pages = pages

    def send_in_pages(self, cursor: Any) -> int:
        """Send the pages as SQLAlchemy would, and return their number."""
        sent = 0
        for page in self.pages():
            self.context.dialect.do_execute(
                cursor, page.replaced_statement, page.replaced_parameters, self.context
            )
            sent += 1
        return sent

    def collect(self, cursor: Any) -> None:
        """Keep what came back of all rows, which were written in their order, for the result."""
        context = self.context
        if not context.compiled.effective_returning:
            return
        rows = context.fetchall_for_returning(cursor)
        if context.compiled._insertmanyvalues.num_sentinel_columns:
            # An increasing key, by which SQLAlchemy sorts the rows of a page.
            rows = sorted(rows, key=operator.itemgetter(-1))
        context._insertmanyvalues_rows = rows


def hand_over_pages(dialect: Dialect, takes: Callable[[Any], bool]) -> None:
    """Make an INSERT reach ``do_execute`` as a :class:`Whole` if ``takes`` wants it so.

    :param takes: called with the execution context.
    """
    if _Page is None:
        return
    plain = getattr(dialect, _METHOD)

    def deliver(*given: Any) -> Iterator[Any]:
        context = given[-1]
        # Most INSERTs have few rows; that is asked first.
        if not (takes(context) and _keeps_order(context)):
            pages: Iterator[Any] = plain(*given)
            return pages
        whole = Whole(context.parameters, context, lambda: plain(*given))
        return iter(
            (_Page(context.statement, whole, None, whole, (), len(whole), 1, 1, True, False),)
        )

    setattr(dialect, _METHOD, deliver)


def are_all_rows(context: Any, parameters: Any) -> bool:
    """Whether a statement that is about to be sent has the parameters of all rows for which it is
    executed. SQLAlchemy may instead send it in pages, or once per row if it could not match
    returned keys to rows.

    :param parameters: the statement's parameters, as the driver takes them.
    """
    rows = context.compiled_parameters
    return len(rows) == 1 or len(parameters) == len(rows) * len(rows[0]) > 0


def plain_pages(dialect: Dialect) -> Any:
    """The dialect's own method that makes pages."""
    return getattr(type(dialect), _METHOD).__get__(dialect)


def _keeps_order(context: Any) -> bool:
    """Whether only the order of the rows shows which returned row belongs to which parameters:
    SQLAlchemy does not look for its own sentinel values in them.
    """
    values = context.compiled._insertmanyvalues
    return not values.num_sentinel_columns or bool(values.implicit_sentinel)
