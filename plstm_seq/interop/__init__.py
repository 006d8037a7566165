"""The rest of the ecosystem: what others wrote is read, and what is ours is handed on.

`equinox` and `linen` wrap modules; `weights` reads and writes files of named arrays, `torch_file`
reads those of PyTorch; `published` knows the published implementation; `export` and `export_graph`
make StableHLO programs; `sharding` names the axes of parameters. Equinox, safetensors and
flatbuffers come with the extra `interop`.
"""
