"""Many cells in one process: from what is asked to runs, and what became of them."""
