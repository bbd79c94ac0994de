"""The operator: runs one machine (lws_core.controller) for each set, and carries out what it decides."""
