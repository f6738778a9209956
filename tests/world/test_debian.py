"""Files are taken out of Debian packages, once, and never put outside of their folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from nextgpt.world.debian import debian_file, debian_files

pytestmark = pytest.mark.usefixtures("own_cache")


def archive(members: dict[str, bytes], compression: str = "xz") -> bytes:
    """A tar archive; a name that ends with "->" is a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name.removesuffix("->"))
            if name.endswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, content.decode()
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_deb(path: Path, members: dict[str, bytes], compression: str = "xz") -> Path:
    """A package laid out as dpkg does: version, control files, files."""
    content = b"!<arch>\n"
    data = archive(members, compression)
    parts = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}": data}
    for name, part in parts.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(part):<10}`\n"
        content += header.encode() + part + b"\n" * (len(part) % 2)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_the_one_file_with_an_ending_is_unpacked(tmp_path: Path, compression: str) -> None:
    members = {"./usr/share/font.sf2": b"sounds", "./usr/share/README": b"words"}
    deb = write_deb(tmp_path / f"font_{compression}.deb", members, compression)
    found = debian_file(deb, ".sf2")
    assert found.read_bytes() == b"sounds"
    assert found.name == "font.sf2"


def test_a_file_unpacked_once_is_left_as_it_is(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "font_1.deb", {"./a.sf2": b"sounds"})
    first = debian_file(deb, ".sf2")
    time = first.stat().st_mtime_ns
    assert debian_file(deb, ".sf2") == first
    assert first.stat().st_mtime_ns == time


def test_all_files_with_an_ending_are_unpacked_in_order_and_links_are_not(tmp_path: Path) -> None:
    members = {"./b/2.pat": b"2", "./a/1.pat": b"1", "./a/3.pat->": b"1.pat"}
    deb = write_deb(tmp_path / "pats.deb", members)
    assert [path.read_bytes() for path in debian_files(deb, ".pat")] == [b"1", b"2"]


def test_several_files_where_one_is_wanted_are_refused(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "two.deb", {"./1.pat": b"1", "./2.pat": b"2"})
    with pytest.raises(ValueError, match="2 files end with '.pat'"):
        debian_file(deb, ".pat")


def test_a_package_without_the_file_is_refused(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "none.deb", {"./README": b"words"})
    with pytest.raises(ValueError, match=r"no file that ends with '\.sf2'"):
        debian_file(deb, ".sf2")


def test_a_path_that_leads_outside_is_refused(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "bad.deb", {"../../outside.sf2": b"sounds"})
    with pytest.raises(ValueError, match="outside"):
        debian_file(deb, ".sf2")


@pytest.mark.parametrize("content", [b"PK\3\4", b"!<arch>\n", b"!<arch>\n" + 60 * b"x"])
def test_what_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "no.deb").write_bytes(content)
    with pytest.raises(ValueError, match=r"no\.deb: is "):
        debian_file(tmp_path / "no.deb", ".sf2")


def test_a_package_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "short.deb", {"./a.sf2": bytes(range(256)) * 64})
    deb.write_bytes(deb.read_bytes()[:-40])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        debian_file(deb, ".sf2")
