"""The objects that should exist for a set, one module per kind: pure functions from values to manifests.

A manifest holds what a controller has to say and nothing that the API server fills in: no resourceVersion,
no UID of its own, no defaults. Labels and annotations are listed in docs/api.md.
"""
