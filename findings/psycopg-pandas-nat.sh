#!/usr/bin/env bash
# psycopg 3.3.9 with pandas 3.0.0 or newer: pandas.NaT, which means "no time", is stored as a time in the year 48113.
#
# NaT is an instance of datetime.datetime, so psycopg chooses its binary dumper for datetimes, which computes with what
# NaT answers. Nothing is raised. psycopg2 2.9.13 refuses the same value. A data frame's to_dict("records") is full of NaT.
# Output seen:  psycopg 48113-11-21 / psycopg2 DataError
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin "psycopg[binary]==3.3.9" psycopg2-binary==2.9.13 pandas==3.1.1
found=$("$work/venv/bin/python" - <<'P'
import os, pandas, psycopg, psycopg2
where = f"host={os.environ['PGSOCKET']} user=postgres dbname=postgres"
with psycopg.connect(where) as c:
    c.execute("CREATE TABLE seen (at timestamptz)")
    c.execute("INSERT INTO seen VALUES (%s)", [pandas.NaT])
    stored = c.execute("SELECT (at AT TIME ZONE 'UTC')::date::text FROM seen").fetchone()[0]
try:
    c = psycopg2.connect(where); c.cursor().execute("INSERT INTO seen VALUES (%s)", [pandas.NaT]); said = "stored"
except psycopg2.Error as error: said = type(error).__mro__[1].__name__ if type(error).__module__ == "psycopg2.errors" else type(error).__name__
print(f"psycopg {stored} / psycopg2 {said}")
P
)
echo "$found"; [[ $found == "psycopg 48113-11-21 / psycopg2 DataError" ]]
