"""A grammar of short stories for children: who (cast), how a story is put together (grammar), and what happens (the plots).

Only words live here; no file is read or written. Start reading in grammar.py, at `tell`.
"""
