"""Exhaustive exploration of what can happen to a small set (docs/reliability.md)."""
