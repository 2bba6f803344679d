#!/usr/bin/env bash
# SQLAlchemy 2.1.9 with psycopg 3.3.9 and PostgreSQL 18.6: Session.execute(insert(M), rows, bind_arguments={"bind": other})
# writes the rows to the database of the class, and not to the other one.
#
# bind_arguments= says where a statement of a Session is to be executed, and does so for a SELECT and for
# insert(M).values(...). With rows as parameters (one dict is enough) the ORM writes by itself, as it writes objects: by
# the connection of the class, and update(M) with rows likewise. No error or warning says so. What a get_bind() chooses
# by the statement (its clause) is passed over in the same way; insert(M.__table__) with rows goes where it is told.
# Output seen:  rows 2 and 0, one dict 1 and 0, values() 0 and 1, the table's rows 0 and 2; updated: new and old
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin sqlalchemy==2.1.9 "psycopg[binary]==3.3.9"
found=$("$work/venv/bin/python" - <<'P'
import os
from sqlalchemy import create_engine, delete, func, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
class Base(DeclarativeBase):
    pass
class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[str]
url = "postgresql+psycopg://postgres@/{}?host=" + os.environ["PGSOCKET"]
own = create_engine(url.format("postgres"))
with own.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    connection.execute(text("CREATE DATABASE other"))
other = create_engine(url.format("other"))
for engine in (own, other):
    Base.metadata.create_all(engine)
def both(query):
    for engine in (own, other):
        with engine.connect() as connection:
            yield str(connection.scalar(query))
def told(title, statement, rows, end):
    with Session(own) as session:
        session.execute(statement, rows, bind_arguments={"bind": other})
        session.commit()
    print(title, " and ".join(both(select(func.count()).select_from(Note))), end=end)
    for engine in (own, other):
        with engine.begin() as connection:
            connection.execute(delete(Note))
rows = [{"words": "a"}, {"words": "b"}]
told("rows", insert(Note), rows, ", ")
told("one dict", insert(Note), rows[0], ", ")
told("values()", insert(Note).values(words="a"), None, ", ")
told("the table's rows", insert(Note.__table__), rows, "; ")
for engine in (own, other):
    with engine.begin() as connection:
        connection.execute(insert(Note.__table__), {"id": 1, "words": "old"})
with Session(own) as session:
    session.execute(update(Note), [{"id": 1, "words": "new"}], bind_arguments={"bind": other})
    session.commit()
print("updated:", " and ".join(both(select(Note.words))))
P
)
echo "$found"
[[ $found == "rows 2 and 0, one dict 1 and 0, values() 0 and 1, the table's rows 0 and 2; updated: new and old" ]]
