"""What was asked for: custom resources as frozen values, every fault listed, names and conditions.

Pure: a function here maps values to values. Nothing reads a clock, a file, a network or the environment,
and nothing raises on a document, however hostile it is.
"""
