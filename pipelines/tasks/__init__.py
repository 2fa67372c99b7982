"""Tasks and their rows: what a task is, which are known by name, how rows are read, cut and checked."""
