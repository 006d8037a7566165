"""The pLSTM of a DAG: `api` chooses, `recurrent` is the truth, `levelwise` is fast (README.md)."""
