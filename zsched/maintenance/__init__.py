"""Work on a scheduler's database as a whole: backups, restores, new keys."""
