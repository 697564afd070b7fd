"""The programs: one module each, whose docopt text is the manual page."""
