"""The router's paths, asked over HTTP on a real database."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fixtures.commands import run_command
from fixtures.portal import by_role, client_of, portal
from sqlalchemy import Engine, make_url, text

from sqla_seqreserve.errors import ConfigurationError
from sqla_seqreserve.web import system_router

BULK = "/holding_activity_logs/bulk"
HEALTH = "/system/sequence-health"
REPAIR = "/system/repair-sequences"


def activity(**changes: Any) -> dict[str, Any]:
    return {
        "product_id": 1,
        "portfolio_fund_id": 1,
        "activity_type": "Investment",
        "activity_timestamp": "2024-05-17",
        "amount": "2500.10",
        **changes,
    }


def saved_rows(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT count(*) FROM holding_activity_log")) or 0


def drift(engine: Engine) -> None:
    """Import an activity with an id far ahead of the sequence, which stands at its start."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO holding_activity_log (id, product_id, portfolio_fund_id,"
                " activity_type, activity_timestamp)"
                " SELECT i, 1, 1, 'Investment', now() FROM generate_series(1, 605) AS i"
            )
        )


async def test_activities_are_saved_in_the_order_of_the_request(
    client: httpx.AsyncClient, holding: Engine
) -> None:
    """Saved activities come back in their order, each with its key and its exact amount."""
    amounts = [f"{index}.05" for index in range(300)]
    answer = await client.post(BULK, json=[activity(amount=amount) for amount in amounts])
    assert answer.status_code == 200
    saved = answer.json()["activities"]
    assert [row["amount"] for row in saved] == amounts
    assert [row["id"] for row in saved] == sorted({row["id"] for row in saved})
    assert answer.json()["irr"] is not None
    assert saved_rows(holding) == 300


async def test_the_rates_are_skipped_on_demand(client: httpx.AsyncClient, holding: Engine) -> None:
    """skip_irr_calculation saves the activities and leaves the rates alone."""
    answer = await client.post(BULK, params={"skip_irr_calculation": True}, json=[activity()])
    assert answer.status_code == 200
    assert answer.json()["irr"] is None
    assert len(answer.json()["activities"]) == 1


async def test_nothing_to_save_saves_nothing(client: httpx.AsyncClient) -> None:
    """An empty array is answered with an empty one."""
    answer = await client.post(BULK, json=[])
    assert answer.status_code == 200
    assert answer.json()["activities"] == []


async def test_every_problem_of_every_row_is_listed(
    client: httpx.AsyncClient, holding: Engine
) -> None:
    """Bad rows are a 422 with each problem at its place, and nothing is saved."""
    rows = [
        activity(),
        activity(portfolio_fund_id=None, amount="NaN"),
        ["no object"],
        activity(activity_type=" ", month="2024-13", activity_timestamp=None),
        activity(product_id=99, portfolio_fund_id=98, colour="red"),
        activity(activity_timestamp="0001-01-01T00:00:00+14:00"),
    ]
    answer = await client.post(BULK, json=rows)
    assert answer.status_code == 422
    assert [problem["loc"] for problem in answer.json()["detail"]] == [
        ["body", 1, "portfolio_fund_id"],
        ["body", 1, "amount"],
        ["body", 2],
        ["body", 3, "month"],
        ["body", 3, "activity_type"],
        ["body", 4, "colour"],
        ["body", 4, "portfolio_fund_id"],
        ["body", 4, "product_id"],
        ["body", 5, "activity_timestamp"],
    ]
    assert all(problem["msg"] for problem in answer.json()["detail"])
    assert saved_rows(holding) == 0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[{", id="cut off"),
        pytest.param(b'"text"', id="no array"),
        pytest.param(b"\xff\xfe\xfa", id="no text"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'[{"product_id": ' + b"9" * 5000 + b"}]", id="too many digits"),
        pytest.param(rb'[{"\ud800": "\udfff", "activity_type": "\ud800"}]', id="half a pair"),
        pytest.param(b'[{"amount": NaN, "product_id": 1e999}]', id="no numbers"),
        pytest.param(b"[null, 1, [], true]", id="no objects"),
    ],
)
async def test_a_body_that_is_no_activities_is_refused(
    client: httpx.AsyncClient, body: bytes
) -> None:
    """A body that is no list of activities, whatever its bytes, is a 422 that can be read."""
    answer = await client.post(BULK, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


async def test_another_content_type_is_refused(client: httpx.AsyncClient) -> None:
    """A content type that another site's form can send is refused, and the body is not read."""
    answer = await client.post(BULK, content=b"[]", headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415


async def test_a_bad_query_is_refused_without_repeating_it(client: httpx.AsyncClient) -> None:
    """A query that is no boolean is a 422 that names the parameter."""
    answer = await client.post(REPAIR, params={"dry_run": "perhaps"})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "dry_run"]
    assert "perhaps" not in answer.text


async def test_ids_far_ahead_are_passed_over_on_request_alone(
    client: httpx.AsyncClient, holding: Engine
) -> None:
    """A repair that would use up a sequence names the ids; ?allow_exhaustion=true
    carries it out.
    """
    drift(holding)
    with holding.begin() as connection:
        connection.execute(
            text(
                "UPDATE holding_activity_log SET id = 9223372036854775800"
                " WHERE id = (SELECT min(id) FROM holding_activity_log)"
            )
        )
    for query in ({"dry_run": True}, {}):
        kept = (await client.post(REPAIR, params=query)).json()
        (refused,) = [r for r in kept["results"] if r["status"] == "NOT_REPAIRABLE"]
        assert (kept["repair_completed"], refused["outlying"]["left"]) == (False, 7)
        assert "9223372036854775800 of holding_activity_log.id stands far" in refused["reason"]
    done = (await client.post(REPAIR, params={"allow_exhaustion": True})).json()
    assert (done["repair_completed"], done["sequences_repaired"]) == (True, 1)


async def test_a_conflict_is_a_409_without_sql_and_a_repair_ends_it(
    client: httpx.AsyncClient, holding: Engine
) -> None:
    """Drift makes saving conflict; the answer shows no SQL; after the repair saving works."""
    drift(holding)
    refused = await client.post(BULK, json=[activity()])
    assert refused.status_code == 409
    assert refused.json() == {"detail": "A value that must be unique is there already."}
    assert saved_rows(holding) == 605

    found = (await client.get(HEALTH)).json()
    assert found["overall_health"] == "UNHEALTHY"
    assert found["total_sequences"] - found["healthy_sequences"] == 1
    behind = next(entry for entry in found["sequences"] if not entry["is_healthy"])
    assert behind["table"] == "holding_activity_log"
    assert (behind["status"], behind["severity"], behind["table_max_id"]) == (
        "NEEDS_REPAIR",
        "HIGH",
        605,
    )

    dry = (await client.post(REPAIR, params={"dry_run": True})).json()
    assert (dry["repair_completed"], dry["sequences_repaired"]) == (False, 0)
    assert {result["status"] for result in dry["results"]} == {"HEALTHY", "WOULD_REPAIR"}
    assert (await client.get(HEALTH)).json()["overall_health"] == "UNHEALTHY"

    done = (await client.post(REPAIR)).json()
    assert (done["repair_completed"], done["sequences_repaired"]) == (True, 1)
    assert (await client.get(HEALTH)).json()["overall_health"] == "HEALTHY"
    saved = await client.post(BULK, json=[activity()])
    assert saved.json()["activities"][0]["id"] > 605


async def test_the_keys_of_health_and_repair(client: httpx.AsyncClient, holding: Engine) -> None:
    """The JSON of health and repair has the keys that dashboards use, the same as the command's."""
    drift(holding)
    found = (await client.get(HEALTH)).json()
    url = holding.url.render_as_string(hide_password=False)
    known = json.loads(run_command("health", url, "--json").stdout)
    assert found.keys() == known.keys()
    assert found["databases"] == known["databases"]
    assert found["sequences"][0].keys() == known["sequences"][0].keys()
    assert found.keys() >= {
        "overall_health",
        "sequences",
        "checked_at",
        "total_sequences",
        "healthy_sequences",
    }
    assert len(found["sequences"]) == found["total_sequences"] == 8
    for entry in found["sequences"]:
        assert entry.keys() >= {
            "table",
            "sequence",
            "sequence_value",
            "table_max_id",
            "is_healthy",
            "gap",
            "status",
            "severity",
        }
    for query in ({"dry_run": True}, {}):
        told = json.loads(run_command("repair", url, "--json", "--dry-run").stdout)
        report = (await client.post(REPAIR, params=query)).json()
        assert report.keys() == told.keys()
        assert report.keys() >= {
            "repair_completed",
            "sequences_repaired",
            "results",
            "repaired_at",
        }
        for result in report["results"]:
            moved = result["status"] in ("WOULD_REPAIR", "REPAIRED")
            assert moved == (result["table"] == "holding_activity_log")
            expected = {"old_value", "new_value", "gap_fixed"} if moved else {"current_value"}
            assert result.keys() >= expected | {"table", "sequence", "table_max_id"}


async def test_a_missing_row_meanwhile_is_a_conflict(
    client: httpx.AsyncClient, holding: Engine
) -> None:
    """A constraint checked only at commit still refuses before the answer is given."""
    with holding.begin() as connection:
        connection.execute(
            text(
                "ALTER TABLE holding_activity_log ADD CONSTRAINT once UNIQUE (activity_type)"
                " DEFERRABLE INITIALLY DEFERRED"
            )
        )
    answer = await client.post(BULK, json=[activity(), activity()])
    assert answer.status_code == 409
    assert saved_rows(holding) == 0


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_database_out_of_reach_is_a_503(driver: str) -> None:
    """A database that cannot be reached is a 503, which does not name its address."""
    with portal(f"postgresql+{driver}://nobody@127.0.0.1:9/none") as app:
        async with client_of(app) as client:
            answer = await client.get(HEALTH)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "127.0.0.1" not in answer.text


async def test_what_no_input_causes_shows_no_sql(database_url: str) -> None:
    """A database without the tables is a 500 that sends the reader to the log."""
    with portal(database_url) as app:
        async with client_of(app) as client:
            answer = await client.post(BULK, json=[activity()])
    assert answer.status_code == 500
    assert answer.json() == {
        "detail": "The database refused the request; the server's log says why."
    }


PATHS = [
    ("POST", BULK),
    ("GET", HEALTH),
    ("POST", REPAIR),
    ("GET", "/system/metrics"),
    ("GET", "/system/sequences"),
    ("GET", "/system/sequences/state"),
    ("GET", "/system/sequences/may-repair"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_authorisation_guards_every_path(portfolio_url: str, method: str, path: str) -> None:
    """Without authorisation every path is refused, even the page and the problems of a bad body."""
    with portal(portfolio_url, by_role("viewer")) as app:
        async with client_of(app) as client:
            answer = await client.request(method, path, content=b"{")
            assert answer.status_code == 403
            assert answer.json() == {"detail": "Only for those with the role viewer."}


def test_every_path_is_tried(app: FastAPI) -> None:
    """The list of paths above contains every path of the router."""
    described = app.openapi()["paths"]
    assert {(m.upper(), path) for path, of in described.items() for m in of} == set(PATHS)


async def test_looking_and_repairing_are_allowed_apart(portfolio_url: str) -> None:
    """A user who may look may repair only if the second dependency allows it, too."""
    with portal(portfolio_url, by_role("viewer"), by_role("admin")) as app:
        async with client_of(app) as client:
            for roles, repairs in (("viewer", 403), ("admin", 403), ("viewer admin", 200)):
                headers = {"X-Roles": roles}
                assert (await client.post(REPAIR, headers=headers)).status_code == repairs
                may = await client.get("/system/sequences/may-repair", headers=headers)
                assert may.status_code == (204 if repairs == 200 else 403)
            looked = await client.get(HEALTH, headers={"X-Roles": "viewer"})
            assert looked.status_code == 200


def test_authorisation_has_no_default() -> None:
    """A router cannot be made without ``authorise``."""
    with pytest.raises(TypeError, match="authorise"):
        system_router(lambda: None, None)  # type: ignore[call-arg]  # what is tested
    with pytest.raises(ConfigurationError, match="authorise: expected a dependency, got None"):
        system_router(lambda: None, None, authorise=None)  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.test"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://other.portal.test"}, 403),
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[bad"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://portal.test"}, 200),
        ({"Origin": "http://portal.test"}, 200),
        ({}, 200),
    ],
)
async def test_other_sites_cannot_ask_for_a_repair(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    """A repair that another site's page requests is refused, whatever its cookies; programs may
    request one.
    """
    assert (await client.post(REPAIR, headers=headers)).status_code == status


async def test_a_trusted_site_can_ask_for_a_repair(portfolio_url: str) -> None:
    """A page of an origin in trusted_origins may request a repair."""
    with portal(portfolio_url, trusted_origins=["https://pages.test"]) as app:
        async with client_of(app) as client:
            for origin, status in (("https://pages.test", 200), ("https://other.test", 403)):
                headers = {"Sec-Fetch-Site": "cross-site", "Origin": origin}
                assert (await client.post(REPAIR, headers=headers)).status_code == status


async def test_asyncpg_conflicts_alike(portfolio_url: str, holding: Engine) -> None:
    """asyncpg's errors are recognised by their SQLSTATE like psycopg's."""
    drift(holding)
    url = make_url(portfolio_url).set(drivername="postgresql+asyncpg")
    with portal(url) as app:
        async with client_of(app) as client:
            assert (await client.post(BULK, json=[activity()])).status_code == 409
            assert (await client.post(REPAIR)).json()["sequences_repaired"] == 1
            assert (await client.post(BULK, json=[activity()])).status_code == 200


async def test_the_history_grows_with_what_changes(
    client: httpx.AsyncClient, holding: Engine
) -> None:
    """Checks on any path are remembered, except one that soon after another found nothing new."""
    await client.get(HEALTH)
    await client.get(HEALTH)
    drift(holding)
    state = (await client.get("/system/sequences/state")).json()
    entry = next(e for e in state["sequences"] if e["table"] == "holding_activity_log")
    assert [gap for _, _, gap in entry["history"]] == [0, 605]
    assert entry["used_fraction"] is not None
    assert entry["column"] == "id"


async def test_the_page_may_load_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    """The page forbids the browser to load anything, and contains no address."""
    answer = await client.get("/system/sequences")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
