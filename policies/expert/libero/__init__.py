"""The scripted expert of LIBERO: real grasps through the real controller, with privileged state.

NumPy and SciPy only: it runs in the policy's process, where no simulator is installed.
"""

from policies.expert.libero.script import LiberoScript

__all__ = ["LiberoScript"]
