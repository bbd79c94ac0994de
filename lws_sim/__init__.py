"""A cluster to run lws_core in, pure too: every choice comes in as an argument."""
