-- Labels that the worker of a job must have, as a JSON object; NULL for none.
ALTER TABLE jobs ADD COLUMN labels TEXT;
