"""How the demo's checkpoints are taught: architecture, the tower's lessons, packed answers, examination."""
