"""MLflow, brought up to the record."""
