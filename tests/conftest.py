"""Settings of all tests: the same examples on every run, however slow the machine is."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fovea", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("fovea")
