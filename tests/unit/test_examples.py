"""docs/job-fields.md has each field of a job."""

from __future__ import annotations

from tests import examples
from zsched.model.spec import JobBody


def test_page_has_the_examples() -> None:
    """`python -m tests.examples --write` updates it."""
    assert examples.PAGE.read_text("utf-8") == examples.page()


def test_each_field_of_a_job_has_an_example() -> None:
    assert {example.field for example in examples.EXAMPLES} == set(JobBody.__struct_fields__)
    assert [example.field for example in examples.EXAMPLES if example.field not in example.body] == []
