#!/usr/bin/env bash
# GeoAlchemy2 0.20.0 with SQLAlchemy 2.1.9: importing it puts a before_execute listener on every Engine of the process.
#
# The listener is registered with retval=True on the class Engine, so that engines without a spatial column, made before
# or after, on any database, hand each statement and its parameters to it; it acts on SQL Server alone. Tools that ask
# whether somebody could change a statement find that somebody could, everywhere.
# Output seen:  0 1
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin geoalchemy2==0.20.0 sqlalchemy==2.1.9
found=$("$work/venv/bin/python" - <<'P'
from sqlalchemy import create_engine
engine = create_engine("sqlite://")
before = len(list(engine.dispatch.before_execute))
import geoalchemy2
print(before, len(list(engine.dispatch.before_execute)))
P
)
echo "$found"; [[ $found == "0 1" ]]
