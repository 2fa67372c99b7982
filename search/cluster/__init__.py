"""Jobs on a Ray cluster: what travels there, and what is asked of it."""
