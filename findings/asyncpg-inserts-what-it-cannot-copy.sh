#!/usr/bin/env bash
# asyncpg 0.32.0 with PostgreSQL 18.6: executemany() writes a citext column, copy_records_to_table() refuses the same rows.
#
# At the first parameter of a type that it does not know, asyncpg gives the connection a codec of its own that hands on text,
# so INSERT needs nothing. COPY of records is always in binary format, for which that codec has nothing: the error comes when
# the first row is encoded, whether or not the type was used before. It is so for every type of an extension (ltree, vector)
# until set_type_codec(..., format="binary"). A table that was filled by INSERT cannot be moved to COPY by changing one call.
# Output seen:  INSERT: 2 rows; COPY: InternalClientError: no binary format encoder for type citext
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin asyncpg==0.32.0
found=$("$work/venv/bin/python" - <<'P'
import asyncio, asyncpg, os
async def main():
    c = await asyncpg.connect(host=os.environ["PGSOCKET"], user="postgres", database="postgres")
    await c.execute("CREATE EXTENSION citext; CREATE TABLE words (word citext)")
    rows = [("One",), ("two",)]
    await c.executemany("INSERT INTO words VALUES ($1)", rows)
    print("INSERT:", await c.fetchval("SELECT count(*) FROM words"), "rows; COPY:", end=" ")
    try:
        print(await c.copy_records_to_table("words", records=rows))
    except asyncpg.InternalClientError as error:
        print(f"InternalClientError: {str(error).split(' (OID')[0]}")
    await c.close()
asyncio.run(main())
P
)
echo "$found"; [[ $found == "INSERT: 2 rows; COPY: InternalClientError: no binary format encoder for type citext" ]]
