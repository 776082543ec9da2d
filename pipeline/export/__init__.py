"""The job `export`: traces in, a dataset folder out (README.md is its contract)."""
