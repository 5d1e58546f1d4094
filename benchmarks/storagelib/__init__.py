"""How fast the library is beside the bare statement and beside other libraries: one file a store."""
