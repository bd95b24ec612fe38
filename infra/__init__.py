"""Where it runs: benchmarks of the whole job, on this machine."""
