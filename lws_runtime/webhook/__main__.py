"""Runs the webhook server as a process of its own: `python -m lws_runtime.webhook`."""

import asyncio
import sys

from .server import run

sys.exit(asyncio.run(run()))
