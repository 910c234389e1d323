"""These tests run inside the runtime of LIBERO-Plus, and only there:

    PYTHONPATH=. MEMVLA_SIM=libero_plus ~/.memvla/runtimes/libero_plus/bin/python -m pytest tests/envs/libero_plus

Elsewhere the folder is left out. With MEMVLA_SIM=libero_plus a package or library that is missing is a failure.
"""

from __future__ import annotations

import os

if os.environ.get("MEMVLA_SIM") != "libero_plus":
    collect_ignore_glob = ["*"]
