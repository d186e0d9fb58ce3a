"""``python -m cerebridge``: the command line."""

from .encoding.study.cli import main

main()
