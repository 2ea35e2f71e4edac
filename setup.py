"""Lists the packages; everything else is in pyproject.toml.

Setuptools finds packages below one folder only, and two of ours have another name than their folder. A
list in pyproject.toml would have to be edited for every new room, and a forgotten one would be missing
from the wheel alone.
"""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["pgbench", "pgbench.*"]), "pgbench_tasks", "pgbench_results"])
