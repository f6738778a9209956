"""Conversion through the command line: what comes out, and that it comes whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from data_formats import DOCUMENTED, WRITTEN, Writer
from tiny_chain import medium

from nextgpt.cli import main
from nextgpt.data.formats.containers import JsonList
from nextgpt.data.rows import read_rows

PNG = medium("image").png_bytes()


def convert(source: Path, target: Path, *options: str) -> None:
    assert main(["convert", "data", str(source), str(target), *options]) == 0


def refused(capsys: pytest.CaptureFixture[str], source: Path, target: Path, *options: str) -> str:
    """Convert what cannot be; return why, nothing is left behind."""
    before = sorted(target.parent.rglob("*"))
    assert main(["convert", "data", str(source), str(target), *options]) == 1
    assert sorted(target.parent.rglob("*")) == before
    printed = capsys.readouterr()
    assert printed.out == ""
    line = printed.err.splitlines()[-1]
    assert line.startswith("nextgpt: ")
    return line


def table(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def shard(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def sample(key: str, caption: str = "a dog") -> list[tuple[str, bytes]]:
    """What img2dataset writes of one picture."""
    facts = {"key": key, "caption": caption, "status": "success", "width": 256, "exif": None}
    return [
        (f"{key}.jpg", PNG),
        (f"{key}.json", json.dumps(facts).encode()),
        (f"{key}.txt", caption.encode()),
    ]


# Lists in JSON


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_list_comes_back_from_its_manifest(name: str, tmp_path: Path) -> None:
    records = [DOCUMENTED[name], *(WRITTEN[name](Writer(f"{number}")) for number in range(20))]
    (tmp_path / "first.json").write_text(json.dumps(records, indent=1))
    convert(tmp_path / "first.json", tmp_path / "manifest.jsonl", "--from", name)
    convert(tmp_path / "manifest.jsonl", tmp_path / "back.json", "--to", name)
    assert json.loads((tmp_path / "back.json").read_text()) == records


def test_rows_say_where_they_come_from(tmp_path: Path) -> None:
    (tmp_path / "cc3m.json").write_text(json.dumps([DOCUMENTED["cc3m"]]))
    target = tmp_path / "manifest.jsonl"
    options = ["--licence", "CC BY 4.0", "--split", "validation", "--media", "images"]
    convert(tmp_path / "cc3m.json", target, "--from", "cc3m", *options)
    ((_, row),) = read_rows(target)
    assert (row.source, row.licence, row.split) == ("cc3m", "CC BY 4.0", "validation")
    assert [part["path"] for _, part in row.media()] == ["images/0001.jpg"]


def test_a_list_is_read_record_by_record(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    size = 8_000_000
    path.write_text(
        "[" + ",".join('{"x": "' + "y" * 1000 + '"}' for _ in range(size // 1000)) + "]"
    )
    tracemalloc.start()
    count = sum(1 for _ in JsonList().read(path, [], tmp_path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == size // 1000
    assert peak < size / 3  # measured 2.1 MB, with the buffer of the file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": []}', "holds one object where a JSON list of records is expected"),
        ("", "holds nothing where"),
        ("caption,id", "holds something else where"),
        ('[{"caption": "a", "image_name": "a.jpg"}, {"capt', "record 2: not JSON, or cut short"),
        ('[{"caption": "a", "image_name": "a.jpg"},', "record 2: not JSON, or cut short"),
        ('[{"caption": "a", "image_name": "a.jpg"}, 5]', "record 2: expected an object, found int"),
        ('[{"caption": "a", "image_name": "../a.jpg"}]', "record 1: file name: '../a.jpg' is out"),
        ('[{"caption": "caf\\ud800"}]', "record 1: "),
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "cc3m.json", text)
    line = refused(capsys, source, tmp_path / "manifest.jsonl", "--from", "cc3m")
    assert f"{source}" in line
    assert message in line


def test_faulty_records_are_left_out_on_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [DOCUMENTED["cc3m"], {"caption": "no picture"}, DOCUMENTED["cc3m"]]
    (tmp_path / "cc3m.json").write_text(json.dumps(records))
    target = tmp_path / "manifest.jsonl"
    convert(tmp_path / "cc3m.json", target, "--from", "cc3m", "--skip-faulty")
    assert len(list(read_rows(target))) == 2
    assert "cc3m.json, record 2: image_name is missing" in caplog.text


def test_names_with_spaces_and_of_any_script_are_taken(tmp_path: Path) -> None:
    names = ["a b.jpg", "ünï/犬 🐕.jpg", "#1 & 2%.jpg"]
    records = [{"caption": "a", "id": name, "image_name": name} for name in names]
    (tmp_path / "cc3m.json").write_text(json.dumps(records), encoding="utf-8")
    convert(tmp_path / "cc3m.json", tmp_path / "m.jsonl", "--from", "cc3m")
    found = [part["path"] for _, row in read_rows(tmp_path / "m.jsonl") for _, part in row.media()]
    assert found == names


# Tables

TABLES = {
    "cc3m-csv": 'id,image_name,caption,split\n7,a b.jpg,"a dog, brown",x\n8,b.jpg,two""s,\n',
    "webvid-csv": "videoid,contentUrl,duration,page_dir,name\n"
    '5,https://example.org/5.mp4,PT00H00M30S,001_050,"Roses\nin the garden"\n',
    "audiocaps-csv": "audiocap_id,youtube_id,start_time,caption\n"
    "91139,r1nicOVtvkQ,130,A woman talks\n",
}
PATHS = {
    "cc3m-csv": ["a b.jpg", "b.jpg"],
    "webvid-csv": ["001_050/5.mp4"],
    "audiocaps-csv": ["91139.wav"],
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_comes_back_from_its_manifest(name: str, tmp_path: Path) -> None:
    source, target = table(tmp_path / "a.csv", TABLES[name]), tmp_path / "manifest.jsonl"
    convert(source, target, "--from", name, "--media", "files")
    rows = [row for _, row in read_rows(target)]
    paths = [part["path"] for row in rows for _, part in row.media()]
    assert paths == [f"files/{path}" for path in PATHS[name]]
    convert(target, tmp_path / "back.csv", "--to", name, "--media", "files")
    first, back = (
        list(csv.DictReader(path.read_text().splitlines(keepends=True)))
        for path in (source, tmp_path / "back.csv")
    )
    assert first == back


def test_columns_and_file_names_may_be_other_ones(tmp_path: Path) -> None:
    source = table(tmp_path / "a.tsv", "youtube_id\tstart\ttext\nabc\t10\train\n")
    options = ["--file-name", "{youtube_id}_{start}.wav", "--caption", "text"]
    convert(source, tmp_path / "m.jsonl", "--from", "audiocaps-csv", *options)
    ((_, row),) = read_rows(tmp_path / "m.jsonl")
    assert [(p["path"], p["caption"]) for _, p in row.media()] == [("abc_10.wav", "rain")]
    convert(tmp_path / "m.jsonl", tmp_path / "b.tsv", "--to", "audiocaps-csv", *options)
    assert "abc" in (tmp_path / "b.tsv").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a dog,https://example.org/1.jpg\n", "line 1: the header lacks caption, image_name"),
        ("", "line 1: the header lacks caption"),
        ("caption,image_name\na,b.jpg\na dog, brown,c.jpg\n", "line 3: 3 cells for 2 columns"),
        ("caption,image_name\na\n", "line 2: 1 cells for 2 columns"),
        ("caption,image_name,caption\na,b,c\n", "line 1: two columns have one name"),
        ("caption,image_name\na,\n", "line 2: image_name is missing"),
        ("caption,image_name\na,../b.jpg\n", "line 2: file name: '../b.jpg' is outside"),
        ('caption,image_name\n"a,b.jpg\n', "line 3: unexpected end of data"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "a.csv", text)
    line = refused(capsys, source, tmp_path / "m.jsonl", "--from", "cc3m-csv")
    assert f"{source}, {message}" in line


def test_a_table_of_another_encoding_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "a.csv"
    source.write_bytes("caption,image_name\ncafé,a.jpg\n".encode("latin-1"))
    assert "a.csv, line" in refused(capsys, source, tmp_path / "m.jsonl", "--from", "cc3m-csv")


def test_a_value_that_a_table_cannot_hold_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{**DOCUMENTED["cc3m"], "tags": ["x"]}]))
    convert(tmp_path / "a.json", tmp_path / "m.jsonl", "--from", "cc3m")
    capsys.readouterr()
    line = refused(capsys, tmp_path / "m.jsonl", tmp_path / "b.csv", "--to", "cc3m-csv")
    assert "row 1: 'tags' is list" in line


# Shards


def test_shards_give_up_their_media_and_take_them_back(tmp_path: Path) -> None:
    keys, shards = ["000000000", "000000001", "000010000"], ["00000", "00000", "00001"]
    shard(
        tmp_path / "cc3m" / "00000.tar", [*sample(keys[0], "a dog"), *sample(keys[1], "ein Hünd")]
    )
    shard(tmp_path / "cc3m" / "00001.tar", sample(keys[2]))
    convert(tmp_path / "cc3m", tmp_path / "m.jsonl", "--from", "cc3m-shards", "--media", "images")
    rows = [row for _, row in read_rows(tmp_path / "m.jsonl")]
    assert [row.id for row in rows] == keys
    assert [part["path"] for row in rows for _, part in row.media()] == [
        f"images/{name}/{key}.jpg" for name, key in zip(shards, keys, strict=True)
    ]
    assert rows[1].extra == {"status": "success", "width": 256, "exif": None}
    assert (tmp_path / "images/00001/000010000.jpg").read_bytes() == PNG
    convert(tmp_path / "m.jsonl", tmp_path / "back", "--to", "cc3m-shards", "--media", "images")
    with tarfile.open(tmp_path / "back" / "00000.tar") as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    for key, caption in zip(keys, ("a dog", "ein Hünd", "a dog"), strict=True):
        first = dict(sample(key, caption))
        assert found[f"{key}.jpg"] == first[f"{key}.jpg"]
        assert found[f"{key}.txt"] == first[f"{key}.txt"]
        assert json.loads(found[f"{key}.json"]) == json.loads(first[f"{key}.json"])
    convert(tmp_path / "back", tmp_path / "m2.jsonl", "--from", "cc3m-shards", "--media", "images2")
    assert main(["data", "check", str(tmp_path / "m.jsonl"), "--limit", "1"]) == 1  # one picture


def link(kind: bytes, target: str) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("000000002.jpg")
        member.type, member.linkname = kind, target
        tar.addfile(member)

    return add


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("/tmp/evil.jpg", b"x")], "'/tmp/evil.jpg' is outside"),
        ([("../evil.jpg", b"x")], "'../evil.jpg' is outside"),
        ([("a/../../evil.jpg", b"x")], "is outside"),
        ([("1.jpg", b"x"), ("1.png", b"x"), ("1.txt", b"a")], "sample 1: has two media"),
        ([("1.jpg", b"x")], "sample 1: caption: None"),
        ([("1.txt", b"a")], "sample 1: file is missing"),
        ([("1.jpg", b"x"), ("1.json", b"{")], "sample 1: its .json is not JSON"),
        ([("1.jpg", b"x"), ("1.json", b"[]")], "sample 1: its .json holds list"),
    ],
)  # fmt: skip
def test_a_shard_with_members_that_lead_elsewhere_or_make_no_pair_is_refused(
    members: list[tuple[str, bytes]], message: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = shard(tmp_path / "in" / "00000.tar", [*sample("000000000"), *members])
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    line = refused(capsys, source, out / "m.jsonl", "--from", "cc3m-shards")
    assert str(source) in line
    assert message in line
    assert not (tmp_path / "deep" / "evil.jpg").exists()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_a_shard_with_a_link_or_a_device_is_refused(
    kind: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "00000.tar"
    with tarfile.open(source, "w") as tar:
        link(kind, "/etc/passwd")(tar)
    line = refused(capsys, source, tmp_path / "m.jsonl", "--from", "cc3m-shards")
    assert f"{source}: '000000002.jpg' is a link or a device" in line


@pytest.mark.parametrize("cut", [100, 512, 700, 2048, 4000])
def test_a_truncated_shard_is_refused(
    cut: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = shard(tmp_path / "whole" / "00000.tar", [*sample("0"), *sample("1")]).read_bytes()
    source = tmp_path / "00000.tar"
    source.write_bytes(whole[:cut])
    line = refused(capsys, source, tmp_path / "m.jsonl", "--from", "cc3m-shards")
    assert f"{source}: truncated" in line


def test_media_are_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = shard(tmp_path / "00000.tar", sample("0"))
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "mine.jpg").write_bytes(b"mine")
    line = refused(capsys, source, tmp_path / "m.jsonl", "--from", "cc3m-shards")
    assert f"{tmp_path / 'media'}: exists already" in line


def test_absent_media_make_no_shard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps([DOCUMENTED["cc3m"]]))
    convert(tmp_path / "a.json", tmp_path / "m.jsonl", "--from", "cc3m")
    capsys.readouterr()
    line = refused(capsys, tmp_path / "m.jsonl", tmp_path / "out", "--to", "cc3m-shards")
    assert f"{tmp_path / '0001.jpg'}: no such file" in line


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "cc4m"], "there is no format 'cc4m'; there are cc3m,"),
        ([], "one of --from and --to"),
        (["--from", "cc3m", "--to", "llava"], "one of --from and --to"),
        (["--from", "llava", "--caption", "text"], "llava: caption is for pairs"),
        (["--from", "cc3m", "--media", "../images"], "'../images' is no folder below"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "a.json", "[]")
    assert message in refused(capsys, source, tmp_path / "m.jsonl", *options)


def test_a_faulty_manifest_is_refused_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = table(tmp_path / "m.jsonl", '{"id": "1", "messages": []}\n')
    line = refused(capsys, source, tmp_path / "a.json", "--to", "llava")
    assert f"{source}, line 1: id or messages are empty" in line


def test_a_missing_source_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cc3m", "cc3m-csv", "cc3m-shards"):
        line = refused(capsys, tmp_path / "gone", tmp_path / "m.jsonl", "--from", name)
        assert f"{tmp_path / 'gone'}" in line
