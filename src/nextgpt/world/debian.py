"""Taking files out of Debian packages: an ``ar`` archive with a compressed ``tar`` inside."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import tarfile
import tempfile
import zlib
from pathlib import Path

from nextgpt.sources import cache_dir

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


def debian_file(deb: Path, suffix: str) -> Path:
    """Unpack the one file of a package whose name ends with ``suffix``.

    Args:
        deb: A ``.deb`` file.
        suffix: End of the file's path, ``.sf2`` or ``/FluidR3_GM.sf2``.

    Returns:
        The file under ``parts`` in the user's cache, where it is left for the next time.

    Raises:
        ValueError: no Debian package, or not exactly one such file in it.
    """
    found = debian_files(deb, suffix)
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:3])
        raise ValueError(f"{deb}: {len(found)} files end with {suffix!r} ({names} ...), not one")
    return found[0]


def debian_files(deb: Path, suffix: str) -> list[Path]:
    """Unpack all files of a package whose names end with ``suffix``, sorted by path.

    Arguments, place and errors as for ``debian_file``; links are passed over.
    """
    with deb.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    wanted = hashlib.sha256(f"{digest} {suffix}".encode()).hexdigest()[:12]
    target = cache_dir() / "parts" / f"{deb.stem}-{wanted}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=target.parent) as scratch:
            unpacked = Path(scratch) / "files"
            unpacked.mkdir()
            _unpack(deb, suffix, unpacked)
            # Another process may have been faster; its copy is the same.
            with contextlib.suppress(OSError):
                unpacked.rename(target)
    found = sorted(path for path in target.rglob("*") if path.is_file())
    if not found:
        raise ValueError(f"{deb}: holds no file that ends with {suffix!r}")
    return found


def _unpack(deb: Path, suffix: str, folder: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(_data_member(deb))) as archive:
            for member in archive:
                if member.isfile() and member.name.endswith(suffix):
                    # The filter refuses paths that lead out of the folder.
                    archive.extract(member, folder, filter="data")
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ValueError(f"{deb}: its files cannot be unpacked ({error})") from error


def _data_member(deb: Path) -> bytes:
    """Read the member of the outer archive that holds the package's files."""
    with deb.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"{deb}: is no Debian package; fetch it again")
        while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
            name = header[:16].decode("ascii", "replace").strip().rstrip("/")
            size = header[48:58].strip()
            if not size.isdigit():
                break
            if name.startswith("data.tar"):
                return file.read(int(size))
            # Members start at even offsets.
            file.seek(int(size) + int(size) % 2, io.SEEK_CUR)
    raise ValueError(f"{deb}: is a Debian package without data.tar; fetch it again")
