"""Whole runs on real simulators. Collected only by `make test-sims`, which sets MEMVLA_SIM."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("MEMVLA_SIM") else ["test_*.py"]
