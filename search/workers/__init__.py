"""What trains: warm workers with a trial each, and hosts that train several in packs."""
