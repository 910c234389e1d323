"""Layouts of the papers' tables (`tables.yaml`), read by `suites.published`."""
