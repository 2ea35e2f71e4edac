"""What `pgbench demo` shows: a sweep, its tables and a gate, on the drawings and tiny checkpoints shipped."""
