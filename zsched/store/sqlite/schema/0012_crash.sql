-- When a worker announced its end: it was told to end, so none of its runs is to blame when it is lost. NULL again from its next
-- registration on.
ALTER TABLE workers ADD COLUMN leaving_ms INTEGER;
