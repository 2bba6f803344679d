"""Calls the user's progress function with the number of rows sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.orm import Session

from .._sqlalchemy.savepoint import out_of_use
from ..errors import ConfigurationError


class _InCopyError(ConfigurationError, DontWrapMixin):
    """The session was used in the middle of a COPY."""


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """The user's function, and the session that it cannot use in the middle of a COPY."""

    session: Session
    connection: Connection
    call: Callable[[int], object]

    def sent(self, rows: int) -> None:
        """Report rows sent at a moment when the session can be used."""
        self.call(rows)

    def in_copy(self, rows: int) -> None:
        """Report rows in the middle of a COPY. A driver that is used for anything else then waits
        for ever or loses the connection, so the session refuses.
        """
        error = _InCopyError(
            "progress() used the session in the middle of a COPY, during which its connection can "
            "do nothing else. Expected a function that does not: use another session there, or "
            "note what is to be done and do it when the rows are written. A generator of rows may "
            "use the session, for it is asked between two COPYs"
        )
        with out_of_use(self.session, self.connection, error):
            self.call(rows)
