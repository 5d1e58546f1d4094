"""Fixtures of all tests live in plugins, one a subject, so that each test file names what it needs and imports nothing."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine and of what else it does. What decides over a change looks at
# the same examples each time; `make test-full` looks for new ones.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("searching", settings.get_profile("patient"), derandomize=False)
settings.load_profile("patient")

pytest_plugins = [
    "tests.plugins.failures",
    "tests.plugins.postgres",
    "tests.plugins.installation",
    "tests.plugins.commandline",
    "tests.plugins.controlplane",
    "tests.plugins.operator",
    "tests.plugins.pgbouncer",
    "storagelib.conformance.plugin",
    "tests.plugins.conformance",
    "tests.plugins.explained",
]
