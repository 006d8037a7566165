"""Images from folders and from CIFAR's files, which the tests write."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tasks.vision import Cifar, ImageFolder
from tasks.vision.sources import package


def write_folder(root, classes, *, images=2, size=(6, 5)):
    """A folder of noise: PNGs named so that path order is image order."""
    random = np.random.default_rng(0)
    drawn = {}
    for name in classes:
        (root / name / "deep").mkdir(parents=True)
        for number in range(images):
            pixels = random.integers(256, size=(*size, 3), dtype=np.uint8)
            place = root / name / ("deep" if number == 0 else ".") / f"{number}.PNG"
            Image.fromarray(pixels).save(place)
            drawn[name, number] = pixels
        (root / name / "notes.txt").write_text("no image")
    return drawn


def test_folder_per_class(tmp_path):
    drawn = write_folder(tmp_path, ["b", "a"])
    (tmp_path / "README.md").write_text("no class")
    source = ImageFolder(tmp_path)
    assert source.classes == ("a", "b")
    assert len(source) == 4
    found = [source[index] for index in range(4)]
    assert [example.label for example in found] == [0, 0, 1, 1]
    # 1.PNG stands before deep/0.PNG.
    for example, key in zip(found, [("a", 1), ("a", 0), ("b", 1), ("b", 0)], strict=True):
        np.testing.assert_array_equal(example.image, drawn[key])
    assert source.path(1) == tmp_path / "a" / "deep" / "0.PNG"
    assert ImageFolder(tmp_path, ["b", "a"]).path(0) == tmp_path / "b" / "1.PNG"
    assert len(ImageFolder(tmp_path, classes=["b"])) == 2
    with pytest.raises(IndexError, match=r"index must lie in 0 .. 3, got 4"):
        source[4]


def test_grey_and_transparent_images_become_rgb(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((3, 4), 7, np.uint8)).save(tmp_path / "a" / "0.png")
    Image.fromarray(np.full((3, 4, 4), 9, np.uint8)).save(tmp_path / "a" / "1.png")
    source = ImageFolder(tmp_path)
    for index, value in enumerate((7, 9)):
        assert source[index].image.shape == (3, 4, 3)
        assert (source[index].image == value).all()


def test_what_systems_leave_is_no_class_and_no_image(tmp_path):
    write_folder(tmp_path, ["a", "b", ".ipynb_checkpoints", "__MACOSX", "@eaDir"])
    write_folder(tmp_path / "a", ["more", ".ipynb_checkpoints", "@eaDir"])
    (tmp_path / "a" / "._0.png").write_bytes(b"no image")
    folder = ImageFolder(tmp_path)
    assert folder.classes == ("a", "b")
    assert len(folder) == 2 + 2 + 2


def test_links_are_followed_without_loops(tmp_path):
    write_folder(tmp_path / "there", ["more"])
    write_folder(tmp_path / "here", ["a", "b"])
    here = tmp_path / "here"
    (here / "a" / "linked").symlink_to(tmp_path / "there" / "more")
    (here / "a" / "again").symlink_to(tmp_path / "there" / "more")
    (here / "a" / "loop").symlink_to(here)
    (here / "a" / "self").symlink_to(here / "a")
    assert len(ImageFolder(here)) == 2 + 2 + 2


def test_what_is_wrong_with_a_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no folder; it needs one for each class"):
        ImageFolder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="a holds no image; they end in"):
        ImageFolder(tmp_path)
    with pytest.raises(ValueError, match="for the class 'c'"):
        ImageFolder(tmp_path, classes=["c"])
    (tmp_path / "a" / "0.png").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"0.png can't be read as an image"):
        ImageFolder(tmp_path)[0]


@pytest.mark.parametrize(("kind", "before"), [("cifar10", 1), ("cifar100", 2)])
def test_cifar(tmp_path, kind, before):
    random = np.random.default_rng(1)
    pixels = random.integers(256, size=(5, 32, 32, 3), dtype=np.uint8)
    labels = np.array([3, 0, 9, 9, 1], np.uint8)
    coarse = np.full((5, before - 1), 200, np.uint8)
    planes = pixels.transpose(0, 3, 1, 2).reshape(5, -1)
    records = np.concatenate([coarse, labels[:, None], planes], axis=1)
    for name, part in (("one", records[:2]), ("two", records[2:])):
        (tmp_path / name).write_bytes(part.tobytes())
    source = Cifar([tmp_path / "one", tmp_path / "two"], kind)
    assert len(source) == 5
    assert len(source.classes) == (10 if kind == "cifar10" else 100)
    for index in range(5):
        np.testing.assert_array_equal(source[index].image, pixels[index])
        assert source[index].label == labels[index]
    with pytest.raises(IndexError):
        source[5]
    (tmp_path / "two").write_bytes(records.tobytes()[:-1])
    with pytest.raises(ValueError, match="must hold whole records of 307"):
        Cifar(tmp_path / "two", kind)


def test_what_is_wrong_with_cifar_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Cifar(tmp_path / "none")
    with pytest.raises(ValueError, match="kind must be one of"):
        Cifar(tmp_path / "none", kind="cifar1000")
    with pytest.raises(ValueError, match="at least one file"):
        Cifar([])
    (tmp_path / "bad").write_bytes(bytes([10] + [0] * 3072))
    with pytest.raises(ValueError, match="bad has class 10 in record 0; there are 10"):
        Cifar(tmp_path / "bad")[0]


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"need the package grain: pip install 'plstm-seq\[vision"):
        package("no_such_package_of_anyone", "grain")


def test_importing_needs_neither_grain_nor_pillow():
    code = "import sys, tasks.vision; assert not {'grain', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
