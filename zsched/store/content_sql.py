"""SQL about contents: input and files of a job, output and artifacts of a run. As sql.py, for all engines."""

from __future__ import annotations

from typing import Final

ADD_INPUT: Final = "INSERT INTO inputs (job_id, content) VALUES (?, ?)"
INPUT: Final = "SELECT content FROM inputs WHERE job_id = ?"
ADD_FILES: Final = "INSERT INTO files (job_id, listing, data) VALUES (?, ?, ?)"
FILES: Final = "SELECT listing, data FROM files WHERE job_id = ?"
ADD_OUTPUT: Final = """
    INSERT INTO outputs (run_id, form, stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail, stderr_total)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
OUTPUT: Final = """
    SELECT form, stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail,
        stderr_total FROM outputs WHERE run_id = ?"""
ADD_ARTIFACTS: Final = "INSERT INTO artifacts (run_id, listing, data) VALUES (?, ?, ?)"
ARTIFACTS: Final = "SELECT listing FROM artifacts WHERE run_id = ?"
# A part of their contents: from a byte on, counted from 1, and how many bytes.
ARTIFACT: Final = "SELECT substr(data, CAST(? AS INTEGER), CAST(? AS INTEGER)) FROM artifacts WHERE run_id = ?"
