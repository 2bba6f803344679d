#!/usr/bin/env bash
# pgvector 0.5.1 (Python) with SQLAlchemy 2.1.9 and psycopg 3.3.9: a list and an array of the same number are stored in a
# halfvec column as different halves.
#
# A list travels as its text, which the server reads into four bytes and then makes a half of: it is rounded twice. An array
# of doubles, or a HalfVector, is made a half at once in Python. 1 + 2**-11 + 2**-26 is a little more than half way between
# two halves, so it is rounded up; in four bytes it is half way, and then rounded to the even one. Who compares a row with
# what they computed, or looks for duplicates by equality, finds them different by how the value was given.
# Output seen:  list [1] array [1.0009766] HalfVector [1.0009766]
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin pgvector==0.5.1 SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9" numpy==2.4.6
found=$("$work/venv/bin/python" - <<'P'
import os
import numpy
from pgvector import HalfVector
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import Text, bindparam, cast, create_engine, select, text
number = 1 + 2**-11 + 2**-26
engine = create_engine(f"postgresql+psycopg://postgres@/postgres?host={os.environ['PGSOCKET']}")
with engine.connect() as connection:
    connection.execute(text("CREATE EXTENSION vector"))
    ways = {"list": [number], "array": numpy.array([number]), "HalfVector": HalfVector([number])}
    for name, value in ways.items():
        given = bindparam("given", value, HALFVEC(1))
        print(name, connection.scalar(select(cast(cast(given, HALFVEC(1)), Text))), end=" ")
P
)
echo "$found"; [[ $found == "list [1] array [1.0009766] HalfVector [1.0009766] " ]]
