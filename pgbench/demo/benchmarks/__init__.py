"""The shipped benchmarks in small: held-out scenes as records of each benchmark's own schema.

The tasks read these records as they read published ones, so that a demo runs the very code of a real run.
"""
