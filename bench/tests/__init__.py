"""python3 -m unittest discover -s bench -t bench; they need no network, no peer and no model."""
