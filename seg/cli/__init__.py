"""The `seg` command: parsing, links between data and network, subcommands. Nothing imports it."""
