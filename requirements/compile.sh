#!/bin/sh
# Pins every range in requirements/*.in. The flags keep machine paths and registry hosts out of the result.
set -eu
cd "$(dirname "$0")"
for name in base local dev; do
  uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url \
    "$@" "$name.in" -o "$name.txt"
done
