"""The shapes of the answers, as the OpenAPI document describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from ..health._history import Point
from ..health.report import RepairAction, Severity, Status


class FindingBody(BaseModel):
    """One finding about a sequence, and what to do about it."""

    code: str
    severity: Severity
    message: str
    remedy: str
    sql: str | None


class SequenceBody(BaseModel):
    """One sequence of a check."""

    table: str | None
    sequence: str | None
    sequence_value: int | None
    table_max_id: int | None
    is_healthy: bool
    gap: int
    status: Status
    severity: Severity
    database: str | None
    schema_: str | None = Field(alias="schema")
    column: str | None
    next_value: int | None
    used_fraction: float | None
    ids_left: int | None
    ids_a_day: float | None
    ends_at: datetime | None
    findings: list[FindingBody]


class _PlaceBody(BaseModel):
    name: str
    host: str | None
    port: int | None


class HealthBody(BaseModel):
    """A check of every sequence, and the databases that it saw."""

    version: int
    overall_health: Literal["HEALTHY", "UNHEALTHY"]
    sequences: list[SequenceBody]
    checked_at: datetime
    grant: str | None
    total_sequences: int
    healthy_sequences: int
    databases: list[_PlaceBody]


class RepairResultBody(BaseModel):
    """One sequence of a repair, with further keys that depend on its status.

    ``old_value``, ``new_value`` and ``gap_fixed`` for ``REPAIRED`` and ``WOULD_REPAIR``, otherwise
    ``current_value``; and a ``reason`` for ``NOT_REPAIRABLE``.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    table: str | None
    sequence: str | None
    status: RepairAction
    table_max_id: int | None


class NotRepairedBody(BaseModel):
    """A reason why sequences were not repaired, and their names."""

    reason: str
    sequences: list[str]


class RepairBody(BaseModel):
    """A repair, or a dry run of one."""

    version: int
    repair_completed: bool
    dry_run: bool
    sequences_repaired: int
    sequences_moved: int
    ids_moved: int
    refusals: list[NotRepairedBody]
    results: list[RepairResultBody]
    repaired_at: datetime


class _PageSequenceBody(SequenceBody):
    history: list[Point]


class PageBody(HealthBody):
    """What the page shows: the check, with its history."""

    metrics: bool
    sequences: list[_PageSequenceBody]  # type: ignore[assignment]  # narrower, and only read


class RefusalBody(BaseModel):
    """Why a request was refused."""

    detail: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the refusals that a path may answer with."""
    texts = {
        409: "Conflict",
        413: "Too large",
        500: "The database's refusal",
        503: "The database is out of reach",
    }
    return {status: {"model": RefusalBody, "description": texts[status]} for status in statuses}
