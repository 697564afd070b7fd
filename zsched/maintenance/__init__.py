"""Maintenance of a scheduler's database and keys: backup, restore, rescue, key rotation."""
