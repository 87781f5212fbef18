-- The roles and the database of Muster. Run by psql as a superuser; safe to run again.
-- Passwords come from the environment, so that no process list or log shows them.
--   muster_owner   owns the database and runs the migrations
--   muster_app     what web and workers connect as: row-level security binds it
--   muster_system  the sweeper and operator pages: sees all tenants by policy, not by BYPASSRLS
\set ON_ERROR_STOP on
\getenv owner_password MUSTER_OWNER_PASSWORD
\getenv app_password MUSTER_APP_PASSWORD
\getenv system_password MUSTER_SYSTEM_PASSWORD
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET client_min_messages = warning;

SELECT format('CREATE ROLE %I', name)
  FROM unnest(ARRAY['muster_owner', 'muster_app', 'muster_system']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec
ALTER ROLE muster_owner  LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'owner_password';
ALTER ROLE muster_app    LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'app_password';
ALTER ROLE muster_system LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
  PASSWORD :'system_password';

SELECT 'CREATE DATABASE muster OWNER muster_owner'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'muster')
\gexec
REVOKE ALL ON DATABASE muster FROM PUBLIC;
GRANT CONNECT ON DATABASE muster TO muster_app, muster_system;

\connect muster
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
