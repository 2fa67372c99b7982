"""Reports and analyses over jobs: the paper's tables and figures from their records."""
