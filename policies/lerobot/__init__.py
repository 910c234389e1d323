"""Policies of LeRobot, run by the Python that LeRobot is installed in: its pins and ours never meet."""
