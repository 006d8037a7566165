"""Images from folders, decoded as far as is needed, and from CIFAR's files."""

import contextlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from tasks.vision import Augmentation, Cifar, ImageFolder, Mixing, batches
from tasks.vision.augmentation import resize
from tasks.vision.sources import FileImage, package


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
    with pytest.raises(IndexError, match=r"index: got 4, expected 0 .. 3"):
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
    with pytest.raises(ValueError, match="got no folder, expected one for each class"):
        ImageFolder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="a: got no image, expected one of"):
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
    with pytest.raises(ValueError, match=r"got .* bytes, expected whole records of 307"):
        Cifar(tmp_path / "two", kind)


def test_what_is_wrong_with_cifar_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        Cifar(tmp_path / "none")
    with pytest.raises(ValueError, match=r"kind: got .*, expected one of"):
        Cifar(tmp_path / "none", kind="cifar1000")
    with pytest.raises(ValueError, match="at least one file"):
        Cifar([])
    (tmp_path / "bad").write_bytes(bytes([10] + [0] * 3072))
    with pytest.raises(ValueError, match="bad: got class 10 in record 0, expected below 10"):
        Cifar(tmp_path / "bad")[0]


def test_a_package_that_is_missing_is_named():
    with pytest.raises(ValueError, match=r"need the package grain: pip install 'plstm-seq\[vision"):
        package("no_such_package_of_anyone", "grain")


def test_importing_needs_neither_grain_nor_pillow():
    code = "import sys, tasks.vision; assert not {'grain', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def smooth(rows, columns):
    """A picture without details that a JPEG would lose."""
    row, column = np.mgrid[:rows, :columns]
    waves = [np.sin(row / 31 + k) + np.cos(column / 23 - k) for k in range(3)]
    return np.rint(127 + 60 * np.stack(waves, axis=2)).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return FileImage(path)


def test_a_part_is_what_it_is_of_the_decoded_image(tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(60, 90, 3), dtype=np.uint8)
    box = (12.0, 3.0, 80.0, 55.0)
    for name in ("a.png", "a.jpg", "a.bmp"):
        image = save(tmp_path / name, pixels)
        assert image.shape == (60, 90, 3)
        expected = resize(FileImage(tmp_path / name).pixels(), 40, box)
        np.testing.assert_array_equal(resize(image, 40, box), expected)


@pytest.mark.parametrize("size", [100, 48, 20], ids="to {}".format)
def test_a_large_jpeg_is_decoded_smaller(tmp_path, size):
    path = tmp_path / "a.jpg"
    save(path, smooth(900, 1200), quality=95, subsampling=0)
    for box in ((0, 0, 1200, 900), (100, 200, 901, 805), (600.5, 20.25, 1100, 620)):
        image = FileImage(path)
        found = resize(image, size, box)
        part = min(box[2] - box[0], box[3] - box[1])
        scale = max(s for s in (1, 2, 4, 8) if part / s >= 2 * size)
        decoded = image._image.size
        assert decoded == (-(-1200 // scale), -(-900 // scale))
        whole = resize(FileImage(path).pixels(), size, box)
        # Another filter: waves of four pixels of the result are damped a little more.
        assert abs(found.astype(int) - whole).max() <= 6
        assert abs(found.astype(int) - whole).mean() < 1


def test_other_modes_become_rgb(tmp_path):
    grey, clear = np.full((30, 40), 7, np.uint8), np.full((30, 40, 4), 9, np.uint8)
    for name, pixels, value in (("a.jpg", grey, 7), ("a.png", clear, 9)):
        found = save(tmp_path / name, pixels).resized(4, (0, 0, 40, 30))
        assert found.shape == (4, 4, 3)
        assert (found == value).all()


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bits_are_read_in_their_range(tmp_path, name):
    grey = np.linspace(0, 65535, 40 * 30).reshape(30, 40)
    found = save(tmp_path / name, grey.astype(np.uint16)).pixels()
    np.testing.assert_allclose(found[:, :, 1], grey / 257, atol=1)


@pytest.mark.parametrize("end", [1, 255, 65535])
def test_floats_are_read_in_the_smallest_range_that_holds_them(tmp_path, end):
    grey = np.linspace(0, end, 40 * 30, dtype=np.float32).reshape(30, 40)
    found = save(tmp_path / "a.tiff", grey).pixels()
    np.testing.assert_allclose(found[:, :, 2], grey * (255 / end), atol=1)


@pytest.mark.parametrize("value", [-1, 1e6, np.nan])
def test_floats_of_no_range_are_refused(tmp_path, value):
    grey = np.full((3, 4), value, np.float32)
    with pytest.raises(ValueError, match=r"a.tiff can't be read as an image: numbers: got"):
        save(tmp_path / "a.tiff", grey).pixels()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_the_camera_says(tmp_path, orientation):
    pixels = smooth(200, 300)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = save(tmp_path / "a.jpg", pixels, quality=95, subsampling=0, exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    assert image.shape == expected.shape
    np.testing.assert_array_equal(image.pixels(), expected)
    box = (10, 20, 110, 120)
    found = FileImage(tmp_path / "a.jpg").resized(10, box)
    assert abs(found.astype(int) - resize(FileImage(tmp_path / "a.jpg"), 10, box)).max() <= 6


def test_a_damaged_exif_block_is_no_damaged_image(tmp_path):
    with pytest.warns(UserWarning, match="Corrupt EXIF"):
        image = save(tmp_path / "a.jpg", smooth(30, 40), exif=b"Exif\0\0MM\0*\0\0\xff\xff\0\1")
    assert image.pixels().shape == (30, 40, 3)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tiff", "a.bmp", "a.jpg", "a.ppm", "a.webp"])
def test_any_damage_is_an_error_that_names_the_file(tmp_path, name):
    """Or an image: a changed byte of pixels may go unseen."""
    path = tmp_path / name
    save(path, smooth(20, 20))
    whole, draws = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole[: draws.integers(1, len(whole) + 1)])
        for place in draws.integers(len(damaged), size=3):
            damaged[place] = draws.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            assert FileImage(path).pixels().dtype == np.uint8
            continue
        refused += 1
        with pytest.raises(ValueError, match=re.escape(f"{path} can't be read as an image: ")):
            FileImage(path).pixels()
    assert refused > 10


def test_a_bomb_is_named(tmp_path, monkeypatch):
    image = save(tmp_path / "a.png", smooth(40, 40))
    del image
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a.png can't be read as an image: .*decompression bomb"):
        FileImage(tmp_path / "a.png")


def test_a_torn_file_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    save(path, smooth(300, 300), quality=95)
    path.write_bytes(path.read_bytes()[:3000])
    for read in (FileImage.pixels, lambda image: image.resized(8, (0, 0, 300, 300))):
        with pytest.raises(ValueError, match=r"a.jpg can't be read as an image"):
            read(FileImage(path))


def folder_of(root):
    for name in ("a", "b"):
        (root / name).mkdir()
        for number in range(5):
            pixels = smooth(48 + number, 64)[:, :, :: 1 if name == "a" else -1]
            save(root / name / f"{number}.png", np.ascontiguousarray(pixels))
    return ImageFolder(root)


@pytest.mark.parametrize("crop", ["resized", "padded", "center"])
def test_a_folder_is_augmented_as_its_decoded_images_are(tmp_path, crop):
    change, folder = Augmentation(16, crop=crop, jitter=0.2), folder_of(tmp_path)
    options = dict(shuffle=False, epochs=1, seed=3)
    found = next(batches(folder, 10, transform=change, **options))
    # Behind a function the loader can't know that less of a file is enough.
    decoded = next(batches(folder, 10, transform=lambda *given: change(*given), **options))
    np.testing.assert_array_equal(found.images, decoded.images)
    np.testing.assert_array_equal(found.targets, decoded.targets)
    assert found.targets.tolist() == [0] * 5 + [1] * 5


def test_processes_read_the_same_batches(tmp_path):
    folder = folder_of(tmp_path)

    def start(processes):
        return batches(
            folder,
            4,
            transform=Augmentation(8, three_augment=True),
            mixing=Mixing(2),
            seed=5,
            threads=1,
            processes=processes,
            prefetch=1,
        )

    alone, together = start(0), start(2)
    expected = [next(alone) for _ in range(6)]
    found = [next(together) for _ in range(3)]
    state = together.get_state()
    found += [next(together) for _ in range(2)]
    for ours, theirs in zip(found, expected[:5], strict=True):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.targets, theirs.targets)
    together.set_state(state)
    np.testing.assert_array_equal(next(together).images, expected[3].images)
