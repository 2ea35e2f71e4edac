"""Reference numbers and the demo's own records; installed as the package pgbench_results."""
