"""Lies here so that pytest puts this folder on the path: tests import `strategies` from it.

LWS_PROFILE=long runs many more examples of the property tests.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("quick", deadline=None)
settings.register_profile("long", deadline=None, max_examples=20_000, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("LWS_PROFILE", "quick"))
