"""The PostgreSQL engine, by psycopg. Everything that is PostgreSQL's own stands in this folder."""
