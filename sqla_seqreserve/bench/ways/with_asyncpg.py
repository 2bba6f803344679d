"""asyncpg's ``copy_records_to_table()``, with ids reserved."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..data import payments
from ..models import PAYMENT_COLUMNS
from ..place import Place
from .clock import Clock

__all__ = ["copy_by_asyncpg"]

_NEXT_IDS = "SELECT nextval('bench_payment_id_seq') FROM generate_series(1, $1::bigint)"


class _Connected:
    """A connection with its event loop."""

    def __init__(self, place: Place) -> None:
        import asyncpg

        url = place.url
        self._runner = asyncio.Runner()
        host = url.host or url.query.get("host")
        port = url.port or url.query.get("port")
        self._connection: Any = self._runner.run(
            asyncpg.connect(
                host=host,
                port=int(str(port)) if port else None,
                user=url.username,
                password=url.password,
                database=url.database,
            )
        )
        place.closing.callback(self._runner.close)
        place.closing.callback(lambda: self._runner.run(self._connection.close()))

    def copy(self, values: list[dict[str, Any]]) -> float:
        return self._runner.run(self._copy(values))

    async def _copy(self, values: list[dict[str, Any]]) -> float:
        clock = Clock()
        async with self._connection.transaction():
            ids = await self._connection.fetch(_NEXT_IDS, len(values))
            await self._connection.copy_records_to_table(
                "bench_payment",
                columns=("id", *PAYMENT_COLUMNS),
                records=(
                    (id_, *[row[column] for column in PAYMENT_COLUMNS])
                    for (id_,), row in zip(ids, values, strict=True)
                ),
            )
        return clock.seconds()


def copy_by_asyncpg(place: Place, objects: int) -> Mapping[str, float]:
    """Reserve ids and copy mappings: no objects, nothing checked."""
    return {"commit": place.keep(_Connected).copy(payments(objects))}
