"""What to do next: functions of the record, the rules and a seed. No Ray, MLflow, torch or clocks."""
