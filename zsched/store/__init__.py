"""The store: jobs, runs, workers and access in a database. `contract` specifies it; `sqlite` is the SQLite engine."""
