"""`python -m pgbench`: the command, also where another program called pgbench comes first on PATH."""

from __future__ import annotations

from pgbench.cli import main

if __name__ == "__main__":
    main()
