#!/usr/bin/env bash
# PostgreSQL 18.6: pg_sequence_last_value(), which the view pg_sequences calls, keeps a lock on the sequence until the
# transaction ends, also after ROLLBACK TO SAVEPOINT: ALTER SEQUENCE of another session waits. nextval() does not.
#
# A monitoring session that reads pg_sequences in a transaction which it leaves open holds up migrations.
# Output seen:  held RowExclusiveLock, after rollback to savepoint RowExclusiveLock, ALTER waits, nextval does not
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin "psycopg[binary]==3.3.9"
found=$("$work/venv/bin/python" - <<'P'
import os, psycopg
where = f"host={os.environ['PGSOCKET']} user=postgres dbname=postgres"
with psycopg.connect(where, autocommit=True) as other, psycopg.connect(where) as looking:
    other.execute("CREATE SEQUENCE s"); other.execute("SELECT nextval('s')")
    def held():
        row = other.execute("SELECT mode FROM pg_locks WHERE relation = 's'::regclass AND granted").fetchone()
        return row[0] if row else "none"
    looking.execute("SAVEPOINT a"); looking.execute("SELECT last_value FROM pg_sequences").fetchone(); before = held()
    looking.execute("ROLLBACK TO SAVEPOINT a"); after = held()
    other.execute("SET lock_timeout = 500")
    def waits(sql):
        try: other.execute(sql); return "does not"
        except psycopg.errors.LockNotAvailable: return "waits"
    print(f"held {before}, after rollback to savepoint {after}, ALTER {waits('ALTER SEQUENCE s CACHE 5')}, nextval", waits("SELECT nextval('s')"))
P
)
echo "$found"; [[ $found == "held RowExclusiveLock, after rollback to savepoint RowExclusiveLock, ALTER waits, nextval does not" ]]
