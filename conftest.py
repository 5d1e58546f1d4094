"""Fixtures of all tests live in plugins, one a subject, so that each test file names what it needs and imports nothing."""

from __future__ import annotations

pytest_plugins = [
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
