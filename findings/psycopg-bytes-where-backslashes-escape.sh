#!/usr/bin/env bash
# psycopg 3.3.9 with PostgreSQL 18.6, on a connection with standard_conforming_strings = off: bytes that are written by COPY
# in text format, or in a list of bytes, are stored as the text of the bytes ("\x00ff", six characters) and not as the bytes.
#
# psycopg's dumper of bytes in text format asks libpq to escape them for this connection, which doubles the backslash: in
# a literal that is right, where the server reads it as one. In COPY and inside an array the doubled one stays. A single
# bytes parameter of execute() goes in binary format and is right. Nothing is raised.
# Output seen:  on: parameter 2, list 2, COPY 2 bytes; off: parameter 2, list 6, COPY 6 bytes
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin "psycopg[binary]==3.3.9"
found=$("$work/venv/bin/python" - <<'P'
import os, psycopg
value = b"\x00\xff"
said = []
for setting in ("on", "off"):
    where = f"host={os.environ['PGSOCKET']} user=postgres dbname=postgres"
    with psycopg.connect(where, options=f"-c standard_conforming_strings={setting}") as c:
        c.execute("CREATE TEMP TABLE seen (n int, v bytea)")
        c.execute("INSERT INTO seen VALUES (1, %s)", [value])
        c.execute("INSERT INTO seen SELECT 2, (%s::bytea[])[1]", [[value]])
        with c.cursor() as cursor, cursor.copy("COPY seen FROM STDIN") as copy:
            copy.write_row([3, value])
        one, two, three = (row[0] for row in c.execute("SELECT length(v) FROM seen ORDER BY n"))
        said.append(f"{setting}: parameter {one}, list {two}, COPY {three} bytes")
print("; ".join(said))
P
)
echo "$found"; [[ $found == "on: parameter 2, list 2, COPY 2 bytes; off: parameter 2, list 6, COPY 6 bytes" ]]
