"""The forecasts of the health page and its paths, and their formats for programs."""

from __future__ import annotations

from pathlib import Path

from fixtures.portal import client_of, everybody
from sqlalchemy import Engine, text

from sqla_seqreserve.web import health_app


async def test_the_forecast_is_on_each_path(
    engine: Engine, database_url: str, tmp_path: Path
) -> None:
    """State, JSON and metrics say how many ids are left and when they end, after a restart too."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id smallserial)"))
    for inserted in (0, 5_000):
        with engine.begin() as connection:
            connection.execute(
                text("INSERT INTO t SELECT FROM generate_series(1, :n)"), {"n": inserted}
            )
        app = health_app(database_url, authorise=everybody, history=tmp_path / "history")
        async with app.router.lifespan_context(app), client_of(app) as client:
            state = (await client.get("/system/sequences/state")).json()
            found = (await client.get("/system/sequence-health")).json()
            exposed = (await client.get("/system/metrics")).text
    (entry,) = found["sequences"]
    assert (entry["ids_left"], entry["ids_a_day"]) == (27_767, 120_000)
    assert (entry["status"], entry["severity"]) == ("WARNING", "HIGH")
    (shown,) = state["sequences"]
    assert shown["ids_left"] == 27_767
    assert shown["ends_at"] is not None
    assert state["metrics"] is True
    assert 'sequence="t_id_seq",table="t"} 27767.0' in exposed
    assert "seqreserve_sequence_seconds_left{" in exposed


async def test_the_page_leads_to_what_machines_read(engine: Engine, database_url: str) -> None:
    """Its links are relative, so that they work under any prefix, and answer."""
    app = health_app(database_url, authorise=everybody)
    async with app.router.lifespan_context(app), client_of(app) as client:
        page = (await client.get("/system/sequences")).text
        for path in ("sequence-health", "metrics"):
            assert f'href="{path}"' in page
            assert (await client.get(f"/system/{path}")).status_code == 200


async def test_metrics_are_guarded(database_url: str) -> None:
    """The metrics need the authorisation of the other paths."""
    app = health_app(database_url, token="s3cret")
    async with app.router.lifespan_context(app), client_of(app) as client:
        assert (await client.get("/system/metrics")).status_code == 401
