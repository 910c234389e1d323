"""Policies that run in somebody else's server, and the words spoken with it. Imports no network library."""
