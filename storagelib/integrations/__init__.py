"""Adapters to other projects' interfaces, each behind an extra of its own."""
