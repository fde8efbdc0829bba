"""TERMINAL: one file per group of commands."""
