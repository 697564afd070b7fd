"""Words and rules: types, states, bounds, units, what a job may ask. Pure; imports nothing else of zsched."""
