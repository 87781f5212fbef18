#!/bin/sh
# web | worker | control | flower | migrate | manage ARGS...
# The process takes the shell's place, so that it gets the container's signals itself.
set -eu
role=${1:-web}
[ $# -gt 0 ] && shift
case "$role" in
  # For the health check; not when a command is run beside the container's own process.
  web | worker | control | flower) echo "$role $$" > "${TMPDIR:-/tmp}/muster-role" ;;
esac
case "$role" in
  web) exec python -m orchestrator.embedded.commands web --host 0.0.0.0 --port "${PORT:-8000}" "$@" ;;
  flower) exec python -m orchestrator.embedded.commands flower --address=0.0.0.0 "$@" ;;
  worker | control) exec python -m orchestrator.embedded.commands "$role" "$@" ;;
  migrate) exec python manage.py migrate "$@" ;;
  manage) exec python manage.py "$@" ;;
  *) echo "Name one of: web, worker, control, flower, migrate, manage." >&2; exit 2 ;;
esac
