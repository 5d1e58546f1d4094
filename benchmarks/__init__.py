"""Paired measurements, each beside a peer in the same run; ``python -m benchmarks.<area>`` writes build/bench/<area>.json."""
