"""The report on one job: one page with what its owner asks."""
