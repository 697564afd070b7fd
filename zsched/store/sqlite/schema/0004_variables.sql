-- A job's own variables, as JSON objects; NULL for none. The values of the secret ones are sealed (zsched/vault.py).
ALTER TABLE jobs ADD COLUMN env TEXT;
ALTER TABLE jobs ADD COLUMN secret_env TEXT;
