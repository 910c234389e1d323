"""CogACT: the memoryless baseline, and the adaptive ensemble of action chunks."""
