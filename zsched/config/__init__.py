"""Settings: the table of keys, and how files, environment and flags become values."""
