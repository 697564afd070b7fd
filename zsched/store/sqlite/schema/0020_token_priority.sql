-- The highest priority that a token may give a job, as a submit, an edit or a rerun names it. NULL: any.
ALTER TABLE tokens ADD COLUMN priority_max INTEGER;
