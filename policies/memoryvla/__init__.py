"""MemoryVLA, MemoryVLA+ and MemoryVLA++: the memory bank, the imagination and the policy built from them."""
