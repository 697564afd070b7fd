-- The database of zsched, and a role that may do nothing but use it. Run this once, as a superuser of PostgreSQL:
--
--     psql -f role.sql
--     psql -c '\password zsched'
--
-- The schedulers log in as this role. It owns one schema, in which it creates and migrates its tables. It owns neither
-- the database nor anything else, and creates no temporary tables. Other names: psql -v role=NAME -v database=NAME.
\set ON_ERROR_STOP on
\if :{?role}
\else
    \set role zsched
\endif
\if :{?database}
\else
    \set database zsched
\endif

-- A scheduler has at most 3 connections more than it has threads, and 72 threads when 64 callers wait. This is enough for
-- two schedulers and some commands, if max_connections is larger.
CREATE ROLE :"role" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 160;

CREATE DATABASE :"database" TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO :"role";

\connect :"database"
REVOKE ALL ON SCHEMA public FROM PUBLIC;
CREATE SCHEMA :"role" AUTHORIZATION :"role";
ALTER ROLE :"role" IN DATABASE :"database" SET search_path = :"role";
