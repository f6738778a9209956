"""Configurations: later files win, a stage lies over the rest, mistakes are one clear error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from nextgpt.cli import main
from nextgpt.configuration import merged, read_config, staged
from nextgpt.training.cli import first_cause, split_arguments

Writer = Callable[[str, Any], Path]
MICRO = Path(__file__).parents[2] / "configs" / "micro.yaml"


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes data as YAML, a string as it is, and returns the path."""

    def written(name: str, data: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        return path

    return written


# Merging


@pytest.mark.parametrize(
    ("base", "over", "expected"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3}}}, {"a": {"b": {"c": 3, "d": 2}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"b": 1}}, {"a": None}, {"a": None}),
        ({"a": None}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": 1}, {}, {"a": 1}),
    ],
)
def test_mappings_are_merged_and_all_else_is_replaced(
    base: dict[str, Any], over: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = (yaml.safe_dump(base), yaml.safe_dump(over))
    assert merged(base, over) == expected
    assert (yaml.safe_dump(base), yaml.safe_dump(over)) == before


def test_a_stage_lies_over_the_rest() -> None:
    config = {
        "model": {"init_args": {"trains": [], "rate": 1}},
        "trainer": {"max_steps": 1},
        "stages": {
            "first": {"model": {"init_args": {"trains": ["lora"]}}},
            "second": {"trainer": {"max_steps": 9}},
        },
    }
    assert staged(dict(config), "first") == {
        "model": {"init_args": {"trains": ["lora"], "rate": 1}},
        "trainer": {"max_steps": 1},
    }
    without = {"model": config["model"], "trainer": config["trainer"]}
    assert staged(dict(config), None) == without


def test_what_a_configuration_says_about_itself_is_nothing_to_run() -> None:
    config = {"about": {"system": "LLaVA"}, "model": 1, "stages": {"first": {"model": 2}}}
    assert staged(dict(config), None) == {"model": 1}
    assert staged(dict(config), "first") == {"model": 2}


@pytest.mark.parametrize("body", [None, {}])
def test_a_stage_may_add_nothing(body: Any) -> None:
    assert staged({"a": 1, "stages": {"plain": body}}, "plain") == {"a": 1}


@pytest.mark.parametrize(
    ("config", "known"),
    [
        ({"stages": {"first": {}, "second": {}}}, "first, second"),
        ({"stages": {}}, "none"),
        ({"stages": None}, "none"),
        ({}, "none"),
    ],
)
def test_an_unknown_stage_is_named_beside_the_known_ones(
    config: dict[str, Any], known: str
) -> None:
    with pytest.raises(ValueError, match=f"no stage 'frist' .* its stages: {known}"):
        staged(config, "frist")


def test_a_later_file_changes_a_stage_and_flags_change_both(
    write: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write(
        "first.yaml",
        {
            "trainer": {"max_steps": 1, "log_every_n_steps": 3},
            "stages": {"short": {"trainer": {"max_steps": 2, "val_check_interval": 5}}},
        },
    )
    second = write("second.yaml", {"stages": {"short": {"trainer": {"max_steps": 4}}}})

    def parsed(*arguments: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as ended:
            main(["fit", "-c", str(first), *arguments, "--print_config"])
        assert not ended.value.code
        return yaml.safe_load(capsys.readouterr().out)["trainer"]

    chosen = parsed("-c", str(second), "--stage", "short")
    assert (chosen["max_steps"], chosen["val_check_interval"]) == (4, 5)
    assert chosen["log_every_n_steps"] == 3
    flags = parsed("--stage=short", f"--config={second}", "--trainer.max_steps", "7")
    assert flags["max_steps"] == 7
    assert parsed()["max_steps"] == 1


# Sources


def test_sources_that_start_with_a_dot_are_relative_to_their_file(
    write: Writer, tmp_path: Path
) -> None:
    config = {
        "model": {"parts": [{"source": "../parts/image", "trunk": "./trunk"}]},
        "stages": {"second": {"model": {"start_from": "../models/first", "output": "./out"}}},
        "plain": {"source": "runs/model", "start_from": None},
        "pinned": {"source": "pypi:package==1.0#sha256=0"},
    }
    read = read_config(write("configs/model.yaml", config))
    assert read["model"]["parts"] == [
        {"source": str(tmp_path / "parts" / "image"), "trunk": str(tmp_path / "configs" / "trunk")}
    ]
    # What is written goes to the working directory, as do sources without a dot.
    assert read["stages"]["second"]["model"] == {
        "start_from": str(tmp_path / "models" / "first"),
        "output": "./out",
    }
    assert (read["plain"], read["pinned"]) == (config["plain"], config["pinned"])


def test_each_file_has_its_own_folder(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read_config(write("one/a.yaml", {"x": {"source": "./part"}, "y": {"source": "./part"}}))
    monkeypatch.chdir(tmp_path)
    write("two/b.yaml", {"x": {"source": "./part"}})
    both = merged(first, read_config(Path("two/b.yaml")))
    assert both == {
        "x": {"source": str(tmp_path / "two" / "part")},
        "y": {"source": str(tmp_path / "one" / "part")},
    }


# A base


def test_a_file_is_laid_over_its_base_and_that_over_its_own(write: Writer, tmp_path: Path) -> None:
    write(
        "far/first.yaml",
        {
            "model": {"rank": 1, "part": {"source": "./weights"}, "kinds": [1, 2]},
            "stages": {"one": {"trainer": {"steps": 1, "clip": 2}}, "two": {"trainer": {}}},
        },
    )
    write("far/second.yaml", {"base": "first.yaml", "model": {"rank": 2, "kinds": [3]}})
    third = write(
        "third.yaml",
        {"base": "far/second.yaml", "stages": {"one": {"trainer": {"steps": 3}}}},
    )
    assert read_config(third) == {
        "model": {
            "rank": 2,
            "part": {"source": str(tmp_path / "far" / "weights")},
            "kinds": [3],
        },
        "stages": {"one": {"trainer": {"steps": 3, "clip": 2}}, "two": {"trainer": {}}},
    }


def test_every_command_sees_the_base(write: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    write("base.yaml", {"trainer": {"max_steps": 1, "log_every_n_steps": 3}})
    over = write("over.yaml", {"base": "base.yaml", "trainer": {"max_steps": 4}})
    with pytest.raises(SystemExit):
        main(["fit", "-c", str(over), "--print_config"])
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert (trainer["max_steps"], trainer["log_every_n_steps"]) == (4, 3)


def test_a_base_that_is_missing_circular_or_no_file_is_one_clear_error(write: Writer) -> None:
    missing = write("missing.yaml", {"base": "nowhere.yaml"})
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such .* base of .*missing\.yaml"):
        read_config(missing)
    write("one.yaml", {"base": "two.yaml"})
    with pytest.raises(ValueError, match=r"one\.yaml -> .*two\.yaml -> .*one\.yaml"):
        read_config(write("two.yaml", {"base": "one.yaml"}).with_name("one.yaml"))
    with pytest.raises(ValueError, match=r"itself\.yaml is laid over itself"):
        read_config(write("itself.yaml", {"base": "itself.yaml"}))
    with pytest.raises(ValueError, match=r"several\.yaml: base is \['a', 3\]"):
        read_config(write("several.yaml", {"base": ["a", 3]}))


def test_of_several_bases_the_later_one_wins_and_stages_come_as_the_file_names_them(
    write: Writer,
) -> None:
    write("one.yaml", {"a": 1, "b": 1, "stages": {"x": {"k": 1}, "y": {"k": 1}, "z": {"k": 1}}})
    write("two.yaml", {"b": 2, "c": 2})
    file = write(
        "top.yaml", {"base": ["one.yaml", "two.yaml"], "stages": {"y": {"k": 3}, "x": None}}
    )
    found = read_config(file)
    assert found == {"a": 1, "b": 2, "c": 2, "stages": {"y": {"k": 3}, "z": {"k": 1}}}
    assert list(found["stages"]) == ["y", "z"]


def test_a_part_of_another_class_takes_the_place_of_the_whole_part(write: Writer) -> None:
    write("low.yaml", {"part": {"class_path": "a.A", "init_args": {"x": 1}}})
    other = {"class_path": "a.B", "init_args": {"y": 2}}
    assert read_config(write("high.yaml", {"base": "low.yaml", "part": other}))["part"] == other


# Arguments


def test_files_and_stage_are_taken_out_of_the_arguments() -> None:
    arguments = ["-c", "a.yaml", "--trainer.max_steps", "3", "--config=b.yaml", "--stage", "s"]
    files, stage, rest = split_arguments([*arguments, "--config", "c.yaml", "--x=--stage=t"])
    assert files == [Path("a.yaml"), Path("b.yaml"), Path("c.yaml")]
    assert stage == "s"
    assert rest == ["--trainer.max_steps", "3", "--x=--stage=t"]


@pytest.mark.parametrize("arguments", [["-c"], ["--stage"], ["--stage="], ["-c", ""]])
def test_an_option_without_its_value_is_named(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=f"^{arguments[0].rstrip('=')} needs a value"):
        split_arguments(arguments)


# Mistakes


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("seed: café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.yaml: not YAML"):
        read_config(tmp_path / "latin.yaml")


def test_an_unknown_key_of_a_part_is_named_before_anything_is_built(
    write: Writer, capsys: pytest.CaptureFixture[str]
) -> None:
    over = {"model": {"init_args": {"chain": {"language_model": {"max_lenght": 3}}}}}
    files = ["-c", str(MICRO), "-c", str(write("over.yaml", over))]
    assert main(["fit", *files, "--stage", "encode_align"]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "model.chain.language_model: Option 'max_lenght' is not accepted" in printed.err


def test_the_first_cause_is_taken_out_of_an_account_of_types() -> None:
    account = "Does not validate against any of the Union subtypes\n  - No such part\n  - Not None"
    assert first_cause(account) == "No such part"
    assert first_cause("weights.safetensors - is missing") == "weights.safetensors - is missing"
