"""Texts that tests compare with what the code makes: `python -m tests.golden` writes them again."""
