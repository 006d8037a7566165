"""The benchmark on tiny shapes: it runs, checks, merges and tells. No time is looked at."""

import json

from processes import ROOT, run_script

SMOKE = f"""
import os, runpy, sys
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
folder = {str(ROOT / "benchmarks")!r}
sys.path.insert(0, folder)
script = folder + "/gpu_1d.py"
def run(*arguments):
    sys.argv = [script, *arguments]
    return runpy.run_path(script, run_name="__main__")
"""


def test_checks_times_and_writes(tmp_path):
    arguments = ["--cpu-smoke", "--only", "tiny word", "limits", "--seconds", "0.01"]
    arguments += ["--folder", str(tmp_path)]
    calls = [arguments, [*arguments, "--implementations", "recurrent"]]
    calls += [[form, "--folder", str(tmp_path)] for form in ("--table", "--summary")]
    text = run_script(SMOKE + "".join(f"run(*{call!r})\n" for call in calls))
    document = json.loads((tmp_path / "gpu_1d.json").read_text())
    rows = {(row["case"], row["implementation"]): row for row in document["rows"]}
    assert len(rows) == len(document["rows"]) == 6
    for name in ("recurrent", "chunkwise"):
        row = rows["tiny word", name]
        assert row["forward_ms"] > 0
        assert row["forward_backward_bytes"] == 2 * row["forward_bytes"]
        assert set(row["errors"]) == {
            "output",
            *["query", "key", "value", "source", "transition", "mark", "direct"],
        }
        assert f"| {name} | bfloat16 |" in text
    # They do not run on a CPU: a row says why.
    for name in ("mosaic_gpu_small", "mosaic_gpu"):
        assert "UnsupportedError: needs" in rows["tiny word", name]["reason"]
    assert rows["limits", "copy"]["bytes_per_second"] > 0


PROFILE = """
planes { id: 1 name: "/host:CPU" lines { id: 1 name: "Stream #1" events { duration_ps: 9000000 } } }
planes {
  id: 2 name: "/device:GPU:0"
  lines { id: 1 name: "XLA Modules" events { metadata_id: 1 duration_ps: 9000000 } }
  lines {
    id: 2 name: "Stream #13(Compute)"
    events { metadata_id: 1 offset_ps: 0 duration_ps: 2000000 }
    events { metadata_id: 1 offset_ps: 5000000 duration_ps: 1000000 }
  }
  lines {
    id: 3 name: "Stream #14(MemcpyD2D)"
    events { metadata_id: 1 offset_ps: 1000000 duration_ps: 2000000 }
  }
  event_metadata { key: 1 value { id: 1 name: "a kernel" } }
}
"""

UNITS = """
import sys
sys.path.insert(0, FOLDER)
from jax.profiler import ProfileData
import gpu_1d_cases as grid, gpu_1d_table as table, peers
from device_time import _events, busy

space = ProfileData.text_proto_to_serialized_xspace(PROFILE)
events = _events(ProfileData.from_serialized_xspace(space))
assert busy((begin, end) for _, begin, end in events) == 4000
assert busy([]) == 0
assert busy([(0, 2), (1, 3), (5, 6), (5.5, 5.6)]) == 4
names = [(case.name, case.dtype) for case in grid.cases()]
assert len(set(names)) == len(names)
target = grid.cases()[0]
assert target.tokens == 64 * 2048
# query, key, value, four gates, output: 2 bytes a number.
assert grid.traffic(target)[0] == target.tokens * 2 * (64 + 64 + 64 + 64 + 64)
assert grid.failures(target, {"output": 2e-2, "query": 1e-2}) == ["output 2.0e-02"]
assert grid.failures(target, {"output": float("nan")}) == ["output nan"]

missing = peers.torch_peers(["GLA", "mLSTM"])
assert [row["implementation"] for row in missing] == ["GLA", "mLSTM"]
assert all("reason" in row or "forward_ms" in row for row in missing), missing
print(table.summary([{"case": "peers", "dtype": "bfloat16", **row} for row in missing]))
"""


def test_parts():
    """Peers that are not installed are rows with a reason."""
    script = f"FOLDER, PROFILE = {str(ROOT / 'benchmarks')!r}, {PROFILE!r}\n"
    run_script(script + UNITS)


def test_the_cost_of_what_is_not_finite():
    script = f"import sys\nsys.path.insert(0, {str(ROOT / 'benchmarks')!r})\n"
    script += "sys.argv[1:] = ['--tiny']\nimport not_finite\nnot_finite.main()"
    lines = run_script(script).splitlines()
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "tiny float32 recurrent",
        "tiny word bfloat16 recurrent",
    ]
