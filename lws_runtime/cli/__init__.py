"""The command `lws`, one module for each subcommand."""
