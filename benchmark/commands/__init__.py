"""What the commands of the command line do; benchmark/cli.py has their flags."""
