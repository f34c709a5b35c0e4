"""Subcommands beside the Trainer's, one module each with a `main` from arguments to a status."""
