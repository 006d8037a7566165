"""The 2D pLSTM: `api` chooses, `recurrent` is the truth, the others are fast (see README.md)."""
