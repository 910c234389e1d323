"""Policies: learned ones, experts and remote clients. Importing this package imports no model library."""
