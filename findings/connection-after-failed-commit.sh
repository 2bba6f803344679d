#!/usr/bin/env bash
# SQLAlchemy 2.1.9 with psycopg 3.3.9 and PostgreSQL 18.6: after a COMMIT that fails, a Session gives its connection back
# to the pool with the transaction still open, and the next session commits what the failed one wrote.
#
# Whoever closes a session expects that what was not committed is rolled back: the pool resets each connection that comes
# back. But the engine's transaction counts as ended once its COMMIT was tried, and a connection that has one is not
# reset. So where commit() raises before the server has ended the transaction (here a listener of the engine's "commit"
# raises; a COMMIT that statement_timeout cancels as it begins leaves a failed transaction the same way), the next
# checkout finds it. engine.begin() rolls back; a Session does not.
# Output seen:  RuntimeError, closed; next session sees 1, after its commit 1; RuntimeError, with engine.begin() 0
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
found=$("$work/venv/bin/python" - <<'P'
import os
from sqlalchemy import create_engine, event, text
from sqlalchemy.orm import Session
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={os.environ['PGSOCKET']}", pool_size=1, max_overflow=0)
with engine.begin() as connection:
    connection.execute(text("CREATE TABLE note (words text)"))
def refuse(connection):
    raise RuntimeError
def fails(save):
    event.listen(engine, "commit", refuse)
    try:
        save()
    except RuntimeError as error:
        print(type(error).__name__, end=", ")
    event.remove(engine, "commit", refuse)
def by_session():
    with Session(engine) as session:
        session.execute(text("INSERT INTO note VALUES ('never committed')"))
        session.commit()
def by_engine():
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO note VALUES ('never committed')"))
count = text("SELECT count(*) FROM note")
fails(by_session)
with Session(engine) as session:
    print("closed; next session sees", session.scalar(count), end=", ")
    session.commit()
engine.dispose()
with engine.begin() as connection:
    print("after its commit", connection.scalar(count), end="; ")
    connection.execute(text("DELETE FROM note"))
fails(by_engine)
with engine.connect() as connection:
    print("with engine.begin()", connection.scalar(count))
P
)
echo "$found"
[[ $found == "RuntimeError, closed; next session sees 1, after its commit 1; RuntimeError, with engine.begin() 0" ]]
