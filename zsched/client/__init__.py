"""The Python client, for people's programs (as `zsched.Client`) and for the commands."""
