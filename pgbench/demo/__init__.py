"""The embedded default: drawn data and tiny checkpoints, so that everything runs without a download."""
