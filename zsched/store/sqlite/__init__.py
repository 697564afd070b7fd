"""SQLite through APSW: the engine, the locks on the file, backups' copies, and the schema."""
