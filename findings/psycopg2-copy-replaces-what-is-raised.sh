#!/usr/bin/env bash
# psycopg2 2.9.13: what read() raises in a copy_expert() is replaced by a database error, KeyboardInterrupt and SystemExit too.
#
# copy_expert() aborts the COPY and raises QueryCanceled, which is an Exception, and of an exception that the file raised only
# the class and the text are left, inside the message: no __cause__, no __context__. So a Ctrl-C, or the exception with
# which a task queue ends a task, that comes while rows are produced is caught by "except Exception", or looks as if the
# server's statement_timeout had passed. psycopg 3.3.9 raises what the block raised.
# Output seen:  psycopg2 QueryCanceled 57014 None None / psycopg KeyboardInterrupt
set -euo pipefail
source "$(dirname "$0")/server.sh"; begin psycopg2-binary==2.9.13 "psycopg[binary]==3.3.9"
found=$("$work/venv/bin/python" - <<'P'
import os, psycopg, psycopg2
where = f"host={os.environ['PGSOCKET']} user=postgres dbname=postgres"
class Rows:
    def read(self, size):
        raise KeyboardInterrupt
c = psycopg2.connect(where)
cursor = c.cursor()
cursor.execute("CREATE TEMPORARY TABLE t (a int)")
try: cursor.copy_expert("COPY t FROM STDIN", Rows())
except KeyboardInterrupt: said = "KeyboardInterrupt"
except Exception as error: said = f"{type(error).__name__} {error.pgcode} {error.__cause__} {error.__context__}"
c.close()
with psycopg.connect(where) as c:
    c.execute("CREATE TEMPORARY TABLE t (a int)")
    try:
        with c.cursor().copy("COPY t FROM STDIN"): raise KeyboardInterrupt
    except BaseException as error: then = type(error).__name__
print(f"psycopg2 {said} / psycopg {then}")
P
)
echo "$found"; [[ $found == "psycopg2 QueryCanceled 57014 None None / psycopg KeyboardInterrupt" ]]
