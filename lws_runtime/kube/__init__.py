"""What talks to a Kubernetes API server: where it is, requests, lists and watches, the lease."""
