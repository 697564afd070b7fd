"""Programs that print numbers, each with the facts of the machine they hold for. Run from the checkout's folder."""
