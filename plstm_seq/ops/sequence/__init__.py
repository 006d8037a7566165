"""The 1D pLSTM: `api` chooses, `recurrent` is the truth, `chunkwise` is fast (see README.md)."""
