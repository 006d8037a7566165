"""Files as `torch.save` writes them, made without PyTorch."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

TYPES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage", "b1": "BoolStorage"}


class FakeTorch:
    """Writes what `torch.save` writes, from arrays, without it."""

    def __init__(self):
        self.modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils")}
        self.utils = self.modules["torch._utils"]
        for name in (*TYPES.values(), "BFloat16Storage"):
            kind = type(name, (), {"__module__": "torch", "__qualname__": name})
            setattr(self.modules["torch"], name, kind)
        for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            function = types.FunctionType((lambda *args: args).__code__, {}, name)
            function.__module__, function.__qualname__ = "torch._utils", name
            setattr(self.utils, name, function)
        self.storages = []

    def tensor(self, array, *, offset=0, shape=None, strides=None, kind=None):
        """A stand-in that pickles as a tensor does."""
        array = np.asarray(array)
        size = array.dtype.itemsize
        kind = kind or TYPES[array.dtype.str[1:]]
        strides = strides or tuple(stride // size for stride in array.strides)
        storage = Storage(getattr(self.modules["torch"], kind), len(self.storages), array.size)
        # The memory as it lies: of a transposed array, that of the array.
        self.storages.append(array.ravel(order="K").tobytes())
        shape = array.shape if shape is None else shape
        arguments = (storage, offset, shape, strides, False, OrderedDict())
        return Call(self.utils._rebuild_tensor_v2, arguments)

    def parameter(self, tensor):
        return Call(self.utils._rebuild_parameter, (tensor, True, OrderedDict()))

    def save(self, path, content, monkeypatch):
        stream = io.BytesIO()
        pickler = Pickler(stream, protocol=2)
        with monkeypatch.context() as patch:
            for name, module in self.modules.items():
                patch.setitem(sys.modules, name, module)
            pickler.dump(content)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", stream.getvalue())
            for key, data in enumerate(self.storages):
                archive.writestr(f"archive/data/{key}", data)


class Storage:
    def __init__(self, kind, key, size):
        self.pid = ("storage", kind, str(key), "cpu", size)


class Call:
    def __init__(self, function, arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


class Pickler(pickle.Pickler):
    def persistent_id(self, obj):
        return obj.pid if isinstance(obj, Storage) else None
