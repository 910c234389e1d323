"""Benchmarks as data: tasks, protocols, published numbers."""
