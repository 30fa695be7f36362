"""`python -m lingraft`: for launchers that start modules, such as `torchrun -m lingraft run RECIPE`."""

from lingraft.cli.main import main

main()
