-- How a key came here: 'enrolled' by a worker on the scheduler's own host, 'remote' by a worker elsewhere, 'file' in an
-- access file. Of keys from before this is not known. They count as 'file', so that the workers' port stays open to the
-- hosts that they may be on, and that enrolling replaces none of them.
ALTER TABLE keys ADD COLUMN origin TEXT NOT NULL DEFAULT 'file' CHECK (origin IN ('enrolled', 'remote', 'file'));
