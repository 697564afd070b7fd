"""Keys, tokens, secrets, local users and server verification: all that an auditor reads."""
