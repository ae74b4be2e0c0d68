#!/bin/sh
# Run once by the postgres image on an empty volume: one database and one role for each service whose password is given.
set -eu

for prefix in $(env | sed -n 's/^\([A-Z_]*\)_DATABASE_PASSWORD=.*/\1/p'); do
  service=$(echo "$prefix" | tr '[:upper:]' '[:lower:]')
  eval "SERVICE_PASSWORD=\${${prefix}_DATABASE_PASSWORD:?}"
  export SERVICE_PASSWORD
  # The password comes from the environment: a command line is everybody's to read.
  psql -v ON_ERROR_STOP=1 -v name="$service" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password SERVICE_PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
