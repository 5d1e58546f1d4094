"""The SQL of llmspell storage: migrations, templates, queries and the audit; no database driver.

Everything here is text in, text out. What must be done in an order that depends on the
database's answers (migrating, bootstrapping) is a generator that yields the next query
and is sent its rows, so that any driver, asynchronous or not, runs the same code.
"""

from __future__ import annotations
