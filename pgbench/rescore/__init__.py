"""Stored answers judged again, where a task judges otherwise than it did when a run ended."""
