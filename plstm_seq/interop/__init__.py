"""Exchange of modules and arrays with other libraries.

`equinox` and `linen` wrap our modules. `weights` reads and writes files of named arrays, and
`torch_file` reads files of PyTorch. `published` reads configurations and parameters of the
published implementation, and writes parameters for it. `export` and `export_graph` make StableHLO
programs. `sharding` names the axes of parameters and splits them over devices. Equinox, safetensors
and flatbuffers come with the extra `interop`.
"""
