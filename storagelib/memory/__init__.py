"""The memory backend: the simplest thing that is right, and the model that the other backends are compared with."""
