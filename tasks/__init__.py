"""The shipped benchmarks, one file each; installed as the package pgbench_tasks."""
