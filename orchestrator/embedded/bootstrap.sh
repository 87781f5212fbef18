#!/bin/sh
# Finds a Python that really runs and lets it fill .muster/venv. Names on PATH may be broken shims,
# so every candidate is tried rather than looked up. Options go on to bootstrap.py.
here=$(dirname "$0")

try() {
  python=$1
  "$python" -I -c "import sys, venv, ensurepip; sys.exit(not ($2))" >/dev/null 2>&1
}

for wanted in '(3, 11) <= sys.version_info < (3, 14)' 'sys.version_info >= (3, 11)'; do
  for candidate in "${PYTHON:-}" "$here/../../.muster/venv/bin/python" python3 \
    python3.13 python3.12 python3.11 /usr/local/bin/python3 /usr/bin/python3 \
    "$HOME"/.pyenv/versions/*/bin/python3; do
    if [ -n "$candidate" ] && try "$candidate" "$wanted"; then
      exec "$python" -I "$here/bootstrap.py" "$@"
    fi
  done
done

cat >&2 <<'SENTENCE'
No usable Python was found. Muster needs Python 3.11 or newer with its venv module.
On Debian or Ubuntu: apt-get install python3 python3-venv. Elsewhere, name one: make PYTHON=/path/to/python3 ...
SENTENCE
exit 1
