"""A cluster to run lws_core in, pure too: every choice comes in as an argument.

docs/library.md names the modules that stay as they are until the next major version.
"""
