"""SQLite through APSW: the engine, the locks on the file, copies for backups, and the schema."""
