"""The gate: is a candidate worse than its baseline, and how sure is that?"""
