"""The model parts that CogACT, MemoryVLA and MemoryVLA++ share. Importing this package imports no model library."""
