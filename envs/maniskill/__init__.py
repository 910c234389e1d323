"""What the benchmarks on SAPIEN share: the Python environment of ManiSkill 3, the Vulkan driver, the renderer.

No benchmark of its own: MIKASA-Robo (`envs.mikasa`) and SimplerEnv (`envs.simpler`) stand on it. Imports no simulator.
"""

from __future__ import annotations

from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements.txt"
NAME = "maniskill"
"""Of the Python environment that all benchmarks on ManiSkill 3 run in."""

LIBRARIES = {"libvulkan.so.1": "libvulkan1", "libvulkan_lvp.so": "mesa-vulkan-drivers"}
RENDERERS = ("cpu", "gpu")
ENV_VARS = {"MS_SKIP_ASSET_DOWNLOAD_PROMPT": "1", "LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
