"""Sweep files: from YAML to the cells that it asks for."""
