"""Runs `jobs.generate` as if on another machine: no process id in a claim counts as one of this
machine, unless the claim is of a driver with the same name.

    python -m tests.chaos.another_machine NAME [arguments of jobs.generate]

So a suspended driver can be replaced as one on another machine would be.
"""

import sys

from jobs import generate
from pipeline.store import claims

if __name__ == "__main__":
    claims.machine = lambda: sys.argv[1]
    sys.exit(generate.main(sys.argv[2:]))
