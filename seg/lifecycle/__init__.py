"""A run's life on disk: checkpoints, resuming, signals, folder. Reports and the CLI import it."""
