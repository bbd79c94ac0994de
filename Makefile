# A cluster to play with, and the tests that need one; both need Go and the extras that docs/cluster.md names.
.PHONY: cluster test-cluster

# That of the environment in the clone, whether or not it is active; without one whatever is on the path.
PYTHON ?= $(firstword $(wildcard .venv/bin/python) python3)

cluster:
	$(PYTHON) tools/cluster.py $(ARGS)

test-cluster:
	$(PYTHON) -m pytest tests/cluster $(ARGS)
