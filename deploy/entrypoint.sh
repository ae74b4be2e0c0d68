#!/bin/sh
# Runs a command of the image's service: serve, migrate, redrive.
set -eu
prefix=$(echo "$SERVICE" | tr '[:lower:]' '[:upper:]')
export "${prefix}_MIGRATIONS=/opt/regie/migrations"
exec python -m "regie_$SERVICE" "$@"
