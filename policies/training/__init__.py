"""Training of the policy family: demonstrations, the world-model stage, the grounding stage, the policy stage.

Imported only by `memvla collect` and `memvla train` (extra `train`).
"""
