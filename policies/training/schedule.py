"""Learning rate and averaging as functions of the update alone."""

from __future__ import annotations

import math

from policies.training.options import TrainOptions


def learning_rate(options: TrainOptions, update: int) -> float:
    """The rate of this update (from 0)."""
    if update < options.warmup:
        return options.lr * (update + 1) / options.warmup
    low = options.lr_final
    if options.schedule == "constant":
        fall = options.cooldown * options.updates
        left = max(options.updates - update, 0) / fall if fall else 1.0
        return options.lr * (low + (1 - low) * min(left, 1.0))
    span = max(options.updates - options.warmup, 1)
    done = min((update - options.warmup) / span, 1.0)
    return options.lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def average_decay(options: TrainOptions, update: int) -> float:
    """The decay of the average after this update (from 0): small at first, so that it soon forgets the start."""
    return min(options.ema, (1 + update) / (10 + update))
