"""What to do: pure functions from (desired, observed) to ordered, frozen actions.

Nothing here reads a clock, draws a random number or talks to anything. The same plan is applied by the reconcilers,
printed by ``llmspell tenant plan`` and compared with nothing left to do by drift detection.
"""
