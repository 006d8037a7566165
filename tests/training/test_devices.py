"""How much memory programs may take."""

import pytest

from plstm_seq.training.devices import control_group_limits


@pytest.mark.parametrize(
    ("line", "folder", "name"),
    [
        pytest.param("0::/job_7/step_0", "", "memory.max", id="version-2"),
        pytest.param("4:cpu,memory:/job_7/step_0", "memory", "memory.limit_in_bytes", id="1"),
    ],
)
def test_limits_are_those_of_the_group_and_of_all_around_it(tmp_path, line, folder, name):
    membership, root = tmp_path / "cgroup", tmp_path / "root"
    membership.write_text(f"9:devices:/other\n{line}\n")
    job = root / folder / "job_7"
    (job / "step_0").mkdir(parents=True)
    (job / name).write_text("4096\n")
    (job / "step_0" / name).write_text("max\n")
    assert control_group_limits(membership, root) == [4096]
    (job / "step_0" / name).write_text("1024\n")
    assert control_group_limits(membership, root) == [1024, 4096]


def test_where_there_are_no_control_groups_there_is_no_limit(tmp_path):
    assert control_group_limits(tmp_path / "none", tmp_path) == []
