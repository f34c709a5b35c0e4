"""What checkpoints say of their runs, read without running code. The module and above import it."""
