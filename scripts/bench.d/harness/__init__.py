"""What all benchmarks share: programs to run, the machine, peers, clusters, rows."""
