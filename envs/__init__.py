"""Simulators behind one Gymnasium interface. Importing this package imports no simulator."""
