"""What compare.py and plot.py are made of; `compare.py` is where to start reading."""
