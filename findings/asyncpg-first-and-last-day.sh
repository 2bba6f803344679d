#!/usr/bin/env bash
# asyncpg 0.32.0 with PostgreSQL 18.6: the first and the last day that Python knows are stored as -infinity and infinity.
#
# date(1, 1, 1) and datetime.max are ordinary values to psycopg and psycopg2, which store 0001-01-01 and
# 9999-12-31 23:59:59.999999. asyncpg writes infinity for exactly these, and reads infinity as them. So a comparison in
# SQL (d < '1000-01-01'), another language, or another driver sees infinity, where the day before is a finite date.
# Output seen:  -infinity infinity 9999-12-30
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin asyncpg==0.32.0
found=$("$work/venv/bin/python" - <<'P'
import asyncio, asyncpg, datetime as dt, os
async def main():
    c = await asyncpg.connect(host=os.environ["PGSOCKET"], user="postgres", database="postgres")
    print(*[await c.fetchval("SELECT ($1::date)::text", dt.date(*day)) for day in ((1, 1, 1), (9999, 12, 31), (9999, 12, 30))])
    await c.close()
asyncio.run(main())
P
)
echo "$found"; [[ $found == "-infinity infinity 9999-12-30" ]]
