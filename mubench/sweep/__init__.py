"""Many runs: grids, workers, clusters, tuning, and the memory a run needs."""
