"""`python -m training`: see `training.cli.commands`."""

from training.cli.commands import main

if __name__ == "__main__":
    main()
