"""Start, drive, watch and stop the five agents. The only place that chooses implementations."""
