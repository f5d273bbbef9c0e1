"""What a database test costs: `python -m bench`, or `make bench`."""
