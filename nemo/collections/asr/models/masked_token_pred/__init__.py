"""Parts of the masked token prediction models of `ssl_models.py`, a file for each idea."""
