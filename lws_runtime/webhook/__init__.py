"""The admission webhooks: answers to reviews, the server in a process of its own, its certificates."""
