"""Several statements in one message of psycopg2: one text that contains the statements with their
values.

For several statements psycopg2 returns the result of the last, or the first error without its
statement. So the server counts the rows of an UPDATE or DELETE among others (:mod:`.row_counts`).
psycopg2's code was read in version 2.9.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from psycopg2 import extensions

from .._sql_names import table_inserted_into
from .driver import Comparison, InsertMessage, MessageError, Returned
from .locking import OUTDATED, UNDO, OutdatedError, guarded
from .row_counts import BEGIN_COUNTING, COUNTED, UNDO_COUNTING, end_counting

_IDLE: Final = extensions.TRANSACTION_STATUS_IDLE


def is_idle(driver: Any) -> bool:
    """Whether psycopg2 would begin a transaction before the next statement."""
    return not driver.autocommit and driver.info.transaction_status == _IDLE


def was_locked(cursor: Any, lock: str, *, autocommit: bool) -> bool:
    """Whether the query after the lock failed; if the lock failed instead, undo its failure."""
    try:
        if autocommit:
            cursor.execute(f"{lock};SELECT 1")
            return True
        # If the lock was granted, the savepoint is gone, and the transaction stays failed.
        cursor.execute(";".join(UNDO))
    except cursor.connection.Error:
        return not autocommit
    return False


def send_message(
    driver: Any,
    inserts: Sequence[InsertMessage],
    first: Comparison | None,
    alone: set[str],
) -> list[Returned]:
    """Send the statements in as few messages as the values that must come back allow.

    :param alone: statements that are known to be refused by the server together with others, but
        not by themselves; new ones are added.
    :raises MessageError: the server, or psycopg2, refused one.
    :raises OutdatedError: the comparison before them failed, and nothing else was executed.
    """
    back = [Returned([]) for _ in inserts]
    opens = is_idle(driver)
    with driver.cursor() as cursor:
        # All values are written into the text before anything is sent. A value that cannot be is
        # refused here, and the statements before it are sent, as they would be one by one.
        messages, refused = _messages(cursor, inserts, alone)
        if refused is not None and not messages:
            raise MessageError(*refused[:2]) from refused[2]
        if first is not None:
            savepoint, lock, release = guarded(first.lock)
            compared = cursor.mogrify(first.statement, first.parameters)
            texts = [savepoint.encode(), cursor.mogrify(lock), compared, release.encode()]
            messages[0].insert(0, _Statement(_FIRST, 0, "", b";".join(texts)))
        for plain in messages:
            message, counts = _counting(plain, inserts)
            try:
                cursor.execute(_NEXT.join(statement.text for statement in message))
            except cursor.connection.Error as error:
                if (
                    message[0].position == _FIRST
                    and error.pgcode in OUTDATED
                    and not was_locked(cursor, "", autocommit=False)
                ):
                    if opens:
                        driver.rollback()
                    raise OutdatedError from error
                if not counts or (error.pgcode or "08")[:2] in _FOR_ONCE:
                    raise _placed(error, message, cursor.connection, back) from error
                if not _is_undone(cursor):
                    last = plain[-1]
                    _note_counted(plain[:-1], inserts, back)
                    raise MessageError(last.position, last.row, back) from error
                _send_each(cursor, plain, inserts, back, alone)
                continue
            if counts:
                _note_counted(plain, inserts, back)
            _note_last(cursor, plain, inserts, back)
    if refused is not None:
        raise MessageError(*refused[:2], back) from refused[2]
    return back


def _send_each(
    cursor: Any,
    message: Sequence[_Statement],
    inserts: Sequence[InsertMessage],
    back: Sequence[Returned],
    alone: set[str],
) -> None:
    """Send the statements of a message that was undone again, one by one."""
    each_is_found = True
    for statement in message:
        if statement.position == _FIRST:
            continue
        try:
            cursor.execute(statement.text)
        except cursor.connection.Error as error:
            raise MessageError(statement.position, statement.row, back) from error
        _note_last(cursor, [statement], inserts, back)
        if inserts[statement.position].counts:
            each_is_found = each_is_found and cursor.rowcount == 1
    if each_is_found:
        alone.update(
            insert.statement
            for insert in (inserts[s.position] for s in message if s.position != _FIRST)
            if insert.counts
        )


_NEXT: Final = b"\n;"
"""The text between two statements; the line break ends a comment ("-- ...") that a listener has
added to the first.
"""


_FIRST: Final = -1
"""The position of statements that belong to no INSERT, UPDATE or DELETE of the message."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement of a message: which INSERT and which of its rows it is."""

    position: int
    row: int
    table: str
    text: bytes


def _messages(
    cursor: Any, inserts: Sequence[InsertMessage], alone: Container[str]
) -> tuple[list[list[_Statement]], tuple[int, int, Exception] | None]:
    """The statements, divided into messages: psycopg2 returns only the rows of a message's last
    statement. If psycopg2 refuses a row, they end before it, and the row's place and the error are
    returned too.
    """
    messages: list[list[_Statement]] = []
    ends = True
    for position, insert in enumerate(inserts):
        table = table_inserted_into(insert.statement)
        is_alone = insert.statement in alone
        for row, parameters in enumerate(insert.parameters):
            try:
                text = cursor.mogrify(insert.statement, parameters)
            except Exception as error:
                return messages, (position, row, error)
            if ends or is_alone:
                messages.append([])
            messages[-1].append(_Statement(position, row, table, text))
            ends = insert.returns or is_alone
    return messages, None


_FOR_ONCE: Final = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
"""Classes of SQLSTATEs that depend on the moment, and not on the statement: a lost connection, a
deadlock, a lock that is not available, a cancelled statement.
"""


def _counting(
    message: list[_Statement], inserts: Sequence[InsertMessage]
) -> tuple[list[_Statement], bool]:
    """The message with the checks that its statements match the expected rows, and whether it has
    any: psycopg2 returns the count of a single statement itself.
    """
    written = [each for each in message if each.position != _FIRST]
    tables = {inserts[each.position].counts for each in written} - {""}
    if len(written) == 1 or not tables:
        return message, False
    before, behind = (text.encode() for text in COUNTED)
    begin, end = (
        _Statement(_FIRST, 0, "", text.encode()) for text in (BEGIN_COUNTING, end_counting(tables))
    )
    compared = [
        replace(each, text=before + each.text + behind) if inserts[each.position].counts else each
        for each in written
    ]
    # A statement that returns rows must be the last.
    place = len(compared) - inserts[written[-1].position].returns
    compared.insert(place, end)
    return [*message[: len(message) - len(written)], begin, *compared], True


def _is_undone(cursor: Any) -> bool:
    """Undo a message that checks row counts. Return False if the counts were as expected, and the
    statement after the checks failed.
    """
    try:
        cursor.execute(";".join(UNDO_COUNTING))
    except cursor.connection.Error:
        return False
    return True


def _note_counted(
    message: Sequence[_Statement], inserts: Sequence[InsertMessage], back: Sequence[Returned]
) -> None:
    """Add the rows that the server has checked to the counts."""
    for statement in message:
        if statement.position != _FIRST and inserts[statement.position].counts:
            back[statement.position].count += 1


def _note_last(
    cursor: Any,
    message: Sequence[_Statement],
    inserts: Sequence[InsertMessage],
    back: Sequence[Returned],
) -> None:
    """Store the results of the last statement of a message: its rows, or their number if it is the
    only statement.
    """
    position = message[-1].position
    found = back[position]
    if inserts[position].returns:
        found.oids = [column.type_code for column in cursor.description]
        rows = cursor.fetchall()
        found.rows.extend(rows)
        found.count += len(rows)
    elif len(message) == 1:
        found.count += max(cursor.rowcount, 0)


def _placed(
    error: Any, message: Sequence[_Statement], connection: Any, back: Sequence[Returned]
) -> MessageError:
    """The error with its place, as far as the server reports it: an offset in the text, or the
    table of a constraint. An error from a trigger's function may be about any table.
    """
    candidates = written = [each for each in message if each.position != _FIRST]
    if error.diag.statement_position is not None:
        offset = int(error.diag.statement_position)
        encoding = extensions.encodings[connection.encoding]
        for statement in message:
            offset -= len(statement.text.decode(encoding)) + len(_NEXT)
            if offset <= 0:
                candidates = [statement] if statement in written else written
                break
    elif error.diag.table_name is not None and error.diag.context is None:
        table = error.diag.table_name
        candidates = [each for each in written if each.table == table] or candidates
    first = candidates[0]
    return MessageError(first.position, first.row, back, is_certain=len(candidates) == 1)
