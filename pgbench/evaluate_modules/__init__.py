"""The benchmarks' metrics as modules of Hugging Face's `evaluate`, one file per benchmark, usable offline.

    from pgbench.evaluate_modules.pope import POPE
    evaluate.load("<this folder>/pope.py", keep_in_memory=True)

They need the extra `pgbench[evaluate]`.
"""
