"""Cayley tables against permutation matrices, quaternion matrices and modular arithmetic."""

import itertools
import math

import numpy as np
import pytest

from tasks.groups import group, read_permutations

NAMES = [
    "Z2",
    "Z7",
    "Z60",
    "D2",
    "D3",
    "D5",
    "Q8",
    "S2",
    "S3",
    "S5",
    "A3",
    "A4",
    "A5",
    "A4xZ5",
    "Z1xZ3",
    "PSL2_2",
    "PSL2_7",
    "<(0 1)(2 3),(0 1 2 3 4)>",
    "<(0 3),(1 2),(0 12)>",
]


@pytest.mark.parametrize("name", NAMES)
def test_table_is_a_group(name):
    found = group(name)
    table, ids = found.table, np.arange(found.order)
    assert table.shape == (found.order, found.order)
    assert len(set(found.elements)) == found.order
    np.testing.assert_array_equal(table[table], table[:, table])  # (a b) c == a (b c)
    np.testing.assert_array_equal(table[0], ids)
    np.testing.assert_array_equal(table[:, 0], ids)
    np.testing.assert_array_equal(table[ids, found.inverses], 0)
    np.testing.assert_array_equal(table[found.inverses, ids], 0)
    assert found.closure(found.generators) == set(ids)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("Z60", 60),
        ("D30", 60),
        ("S6", 720),
        ("A6", 360),
        ("PSL2_11", 660),
        ("A5", 60),
        ("A4xZ5", 60),
        ("Z2xZ2xS3", 24),
    ],
)
def test_order(name, order):
    assert group(name).order == order


@pytest.mark.parametrize("name", ["S3", "S4", "A4", "A5"])
def test_products_are_those_of_permutation_matrices(name):
    found = group(name)
    n = found.images.shape[1]
    matrices = np.eye(n, dtype=int)[:, found.images].transpose(1, 0, 2)  # e_i -> e_image[i]
    products = np.einsum("aij,bjk->abik", matrices, matrices)
    np.testing.assert_array_equal(products, matrices[found.table])


@pytest.mark.parametrize("n", [3, 4, 5])
def test_alternating_group_holds_the_even_permutations(n):
    everyone, even = group(f"S{n}"), group(f"A{n}")
    determinants = np.linalg.det(np.eye(n)[everyone.images])
    np.testing.assert_array_equal(even.images, everyone.images[determinants > 0])


@pytest.mark.parametrize("n", [3, 4, 6])
def test_dihedral_group_is_that_of_rotations_and_reflections(n):
    found = group(f"D{n}")
    angle = 2 * math.pi / n
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    reflection = np.diag([1.0, -1.0])
    matrices = np.stack(
        [
            np.linalg.matrix_power(rotation, p) @ np.linalg.matrix_power(reflection, t)
            for t, p in itertools.product((0, 1), range(n))
        ]
    )
    products = np.einsum("aij,bjk->abik", matrices, matrices)
    np.testing.assert_allclose(products, matrices[found.table], atol=1e-12)


def test_quaternion_group_is_that_of_quaternion_matrices():
    found = group("Q8")
    units = {
        "e": np.eye(2),
        "i": np.diag([1j, -1j]),
        "j": np.array([[0, 1], [-1, 0]]),
        "k": np.array([[0, 1j], [1j, 0]]),
    }
    matrices = np.stack(
        [-units[name[1]] if name[0] == "-" else units[name] for name in found.elements]
    )
    products = np.einsum("aij,bjk->abik", matrices, matrices)
    np.testing.assert_allclose(products, matrices[found.table])


def test_direct_product_multiplies_by_component():
    left, both = group("S3"), group("S3xZ4")
    for a, b in itertools.product(range(both.order), repeat=2):
        expected = f"{left.elements[left.table[a // 4, b // 4]]}:{(a + b) % 4}"
        assert both.elements[both.table[a, b]] == expected


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("a4_x_z5", "A4xZ5"), ("A4XZ5", "A4xZ5"), ("c60", "Z60"), (" s5 ", "S5"), ("q8xc2", "Q8xZ2")],
)
def test_spellings_of_a_name(name, canonical):
    assert group(name).name == canonical


def test_permutations_are_named_by_cycles():
    s5 = group("S5")
    assert s5.elements[0] == "e"
    assert s5.images[s5.element("(123)")].tolist() == [1, 2, 0, 3, 4]
    assert s5.images[s5.element("(12)(345)")].tolist() == [1, 0, 3, 4, 2]


@pytest.mark.parametrize("name", ["", "X5", "S", "Q4", "S0", "S5x", "S5yZ2", "5S"])
def test_unknown_group(name):
    with pytest.raises(ValueError, match=r"group: got .*, expected Z5"):
        group(name)


@pytest.mark.parametrize("name", ["S8", "S1000000", "S5xS5", "Z5041"])
def test_large_group_is_refused(name):
    with pytest.raises(ValueError, match="expected at most 5040 elements"):
        group(name)


@pytest.mark.parametrize("name", ["Z1", "S1", "A2", "Z1xA1"])
def test_trivial_group_is_refused(name):
    with pytest.raises(ValueError, match="expected at least 2 elements"):
        group(name)


def test_group_must_be_named():
    with pytest.raises(TypeError, match="name"):
        group(5)


def test_generators_give_a_group_of_points_from_zero():
    found = group("<(0 1)(2 3), (0,1,2,3,4)>")
    assert found.name == "<(0,1)(2,3),(0,1,2,3,4)>"
    assert [found.elements[g] for g in found.generators] == ["(0,1)(2,3)", "(0,1,2,3,4)"]
    assert found.images[found.generators[1]].tolist() == [1, 2, 3, 4, 0]
    np.testing.assert_array_equal(found.images, group("A5").images)
    np.testing.assert_array_equal(found.table, group("A5").table)
    assert group(found.name.lower()).name == found.name


def test_projective_group_is_that_of_fractional_linear_maps():
    # z -> (a z + b) / (c z + d) with a d - b c = 1 modulo 7, on 0 .. 6 and infinity (7).
    points, maps = range(7), set()
    for a, b, c, d in itertools.product(points, repeat=4):
        if (a * d - b * c) % 7 == 1:
            above = [(a * z + b, c * z + d) for z in points] + [(a, c)]
            maps.add(tuple(7 if v % 7 == 0 else u * pow(v, -1, 7) % 7 for u, v in above))
    assert {tuple(image) for image in group("PSL2_7").images.tolist()} == maps


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("<>", "expected cycles such as"),
        ("<(0 1),>", "expected cycles such as"),
        ("<(0 1) 2>", "expected cycles such as"),
        ("<(0 1", "expected cycles such as"),
        ("<(0 1)(1 2)>", "expected different points"),
        ("<(0 1),(0 1 2),(1 0)>", r"permutations: got .*, expected different ones"),
        ("<(4)>", "got a trivial group"),
        ("<(0 99999)>", "points: got 99999, expected below 5040"),
        ("<(0 1),(0 1 2 3 4 5 6 7)>", "expected at most 5040 elements"),
        ("PSL2_9", "expected PSL2_p with a prime p, not 9"),
        ("PSL2_23", "expected at most 5040 elements"),
    ],
)
def test_mistakes_in_generators_are_explained(name, message):
    with pytest.raises(ValueError, match=message):
        group(name)


def test_unknown_element():
    with pytest.raises(ValueError, match=r"element: got '\(1 2\)', expected one of"):
        group("S3").element("(1 2)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(0 1)" * 3000 + "(0 1", "expected cycles such as"),
        ("(" + "0 " * 5000, "expected cycles such as"),
        ("(0 1)" + " , " * 5000, "expected cycles such as"),
        ("(0 12345678901234567890)", "expected cycles such as"),
        (",".join(f"({point} {point + 1})" for point in range(5000)), "expected fewer to multiply"),
    ],
    ids=["cycles", "points", "commas", "digits", "many"],
)
def test_what_would_take_without_end_is_refused(text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_permutations(text)
    assert len(str(error.value)) < 500
