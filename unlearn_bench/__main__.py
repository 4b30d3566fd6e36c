"""Lets ``python -m unlearn_bench`` stand for the ``unlearn-bench`` command."""

from unlearn_bench.cli import main

if __name__ == "__main__":
    main()
