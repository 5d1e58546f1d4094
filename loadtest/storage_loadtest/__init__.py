"""Multi-tenant load on storagelib with Locust; its users and scenarios follow the library's stores."""
