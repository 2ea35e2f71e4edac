"""Two runs of the same questions, sample by sample: what differs, by how much, and whether it is real."""
