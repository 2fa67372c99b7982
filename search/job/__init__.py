"""The job file: what may stand in it, and the job in the form that all else sees."""
