"""Archives: what is wanted comes out, and nothing a stranger could hide in one does harm."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmark.data import unpack
from benchmark.data.unpack import BadArchive, Limits
from benchmark.errors import UserError

WANTED = {"images": "images"}


def tar(file: Path, members: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for info in extra:
            archive.addfile(info)
    return file


def zipped(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def unpacked(
    archive: Path, folder: Path, wanted: dict[str, str] = WANTED, **limits: int
) -> list[str]:
    into = folder / "into"
    into.mkdir()
    list(unpack.unpack(archive, into, wanted, Limits(**limits)))
    return sorted(path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file())


FILES = {
    "set-1.0/images/a/1.jpg": b"one",
    "set-1.0/images/b/2.jpg": b"two",
    "set-1.0/labels.txt": b"x",
    "./set-1.0/images/c.jpg": b"three",
}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_what_is_wanted_comes_out_of_a_tar_wherever_it_stands(tmp_path, mode):
    archive = tar(tmp_path / "set.tar", FILES, mode=mode)
    assert unpacked(archive, tmp_path) == ["images/a/1.jpg", "images/b/2.jpg", "images/c.jpg"]
    assert (tmp_path / "into" / "images" / "a" / "1.jpg").read_bytes() == b"one"


def test_what_is_wanted_comes_out_of_a_zip_under_the_name_it_gets(tmp_path):
    members = FILES | {
        "__MACOSX/set-1.0/images/._1.jpg": b"junk",
        "other/images/9.jpg": b"another folder of that name",
    }
    archive = zipped(tmp_path / "set.zip", members)
    assert unpacked(archive, tmp_path, {"images": "photos", "labels.txt": "names.txt"}) == [
        "names.txt",
        "photos/a/1.jpg",
        "photos/b/2.jpg",
        "photos/c.jpg",
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../images/out.jpg",
        "/images/out.jpg",
        "images/../../out.jpg",
        "images\\..\\out.jpg",
        "C:/images/out.jpg",
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_path_that_leads_out_refuses_the_whole_archive(tmp_path, name, kind):
    members = {"images/1.jpg": b"one", name: b"evil"}
    archive = (
        tar(tmp_path / "set.tar", members)
        if kind == "tar"
        else zipped(tmp_path / "set.zip", members)
    )
    with pytest.raises(BadArchive, match="leads out of its folder"):
        unpacked(archive, tmp_path)
    assert not list(tmp_path.parent.glob("out.jpg")) + list(tmp_path.rglob("out.jpg"))


@pytest.mark.parametrize(
    "info",
    [
        special("images/link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("images", tarfile.SYMTYPE, "/tmp"),
        special("images/hard.jpg", tarfile.LNKTYPE, "../../secret"),
        special("images/device", tarfile.CHRTYPE),
        special("images/pipe", tarfile.FIFOTYPE),
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, info):
    with pytest.raises(BadArchive, match="a link or a device where a file should be"):
        unpacked(tar(tmp_path / "set.tar", {}, info), tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("images/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BadArchive, match="a link or a device"):
        unpacked(tmp_path / "set.zip", tmp_path)


def test_links_nobody_wants_do_no_harm(tmp_path):
    archive = tar(tmp_path / "set.tar", FILES, special("set-1.0/latest", tarfile.SYMTYPE, "images"))
    assert len(unpacked(archive, tmp_path)) == 3


@pytest.mark.parametrize("limits", [{"factor": 0, "spare_bytes": 10_000}, {"files": 2}])
def test_an_archive_that_grows_too_much_is_refused(tmp_path, limits):
    members = {f"images/{i}.jpg": bytes(20_000) for i in range(3)}
    with pytest.raises(BadArchive, match="grows beyond"):
        unpacked(tar(tmp_path / "set.tar.gz", members), tmp_path, **limits)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_cut_short_is_refused(tmp_path, kind):
    members = {f"images/{i}.jpg": os.urandom(5000) for i in range(5)}
    archive = tmp_path / f"set.{kind}"
    whole = (
        zipped(archive, members)
        if kind == "zip"
        else tar(archive, members, mode="w" if kind == "tar" else "w:gz")
    )
    whole.write_bytes(whole.read_bytes()[:12_000])
    with pytest.raises(BadArchive, match="is damaged or cut short"):
        unpacked(archive, tmp_path)


def test_a_damaged_member_of_a_zip_is_refused(tmp_path):
    archive = zipped(tmp_path / "set.zip", {"images/1.jpg": b"0123456789" * 100})
    archive.write_bytes(archive.read_bytes().replace(b"0123456789", b"0123456780", 1))
    with pytest.raises(BadArchive, match="is damaged or cut short"):
        unpacked(archive, tmp_path)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "set.zip").write_bytes(b"not an archive at all")
    with pytest.raises(BadArchive, match="is damaged or cut short"):
        unpacked(tmp_path / "set.zip", tmp_path)


def test_an_archive_without_what_is_wanted_is_refused(tmp_path):
    with pytest.raises(BadArchive, match="holds no 'images'"):
        unpacked(zipped(tmp_path / "set.zip", {"pictures/1.jpg": b"one"}), tmp_path)


def test_a_member_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(BadArchive, match=r"holds './images/1.jpg' twice"):
        unpacked(
            tar(tmp_path / "set.tar", {"images/1.jpg": b"one", "./images/1.jpg": b"two"}), tmp_path
        )


def test_too_little_space_leaves_the_archive_for_another_attempt(tmp_path, monkeypatch):
    archive = zipped(tmp_path / "set.zip", FILES)
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match="make room"):
        unpacked(archive, tmp_path)
    assert archive.exists()
