"""A request as one transaction, which ends before the answer is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncSession

__all__ = ["committing"]


@asynccontextmanager
async def committing(session: AsyncSession) -> AsyncIterator[None]:
    """Commit at the end of the block, or roll back what failed in it.

    The dependency that made the session ends only after the answer: too late to say that a
    deferred constraint refused the commit.
    """
    try:
        yield
        await session.commit()
    except BaseException:
        await session.rollback()
        raise
