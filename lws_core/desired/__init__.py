"""The objects that should exist, one module for each kind."""
