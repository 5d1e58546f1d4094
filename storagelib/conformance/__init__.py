"""What every backend of every store must do, as tests that anybody can run against a backend of their own.

Run them on the memory and SQLite backends, asynchronous and blocking::

    pytest --pyargs storagelib.conformance -p storagelib.conformance.plugin

A project that has a backend of its own tells of it in its ``conftest.py`` (see the how-to on backends)::

    def pytest_llmspell_subjects(config):
        from storagelib.conformance.subjects import Subject
        return [Subject.registered("kv", "redis")]
"""
