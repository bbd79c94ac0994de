"""The parts of a cluster as step functions."""
