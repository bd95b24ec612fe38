"""A Flink cluster on this machine, for development and tests: see README.md beside this."""
