"""What a GPU makes of the suite: `python -m benches.gpu`."""
