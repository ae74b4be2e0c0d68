#!/bin/sh
# Run once by the postgres image on an empty volume: one database and one role for each service.
set -eu

for service in scheduler publisher audience metrics gateway; do
  variable=$(echo "$service" | tr '[:lower:]' '[:upper:]')_DATABASE_PASSWORD
  eval "SERVICE_PASSWORD=\${$variable:?}"
  export SERVICE_PASSWORD
  # The password comes from the environment: a command line is everybody's to read.
  psql -v ON_ERROR_STOP=1 -v name="$service" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\getenv password SERVICE_PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
