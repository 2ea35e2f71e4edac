"""How fast a checkpoint is on this machine, apart from any benchmark: `pgbench bench`, and what plans use."""
