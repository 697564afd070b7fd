"""Keys, tokens, secrets, local users, and whose server a client talks to: what an auditor wants side by side."""
