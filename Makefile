# A cluster to play with, and the tests that need one; both need Go, see docs/cluster.md.
.PHONY: cluster test-cluster

cluster:
	python tools/cluster.py $(ARGS)

test-cluster:
	python -m pytest tests/cluster $(ARGS)
