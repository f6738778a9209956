"""Every configuration that is shipped parses through the front door, with every stage in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from nextgpt.cli import main
from nextgpt.configuration import read_config

CONFIGS = Path(__file__).parent.parent / "configs"
# What every bridge is laid under on the micro model is no configuration of its own.
FILES = sorted(set(CONFIGS.rglob("*.yaml")) - {CONFIGS / "bridges" / "micro.yaml"})


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


CASES = [(file, stage) for file in FILES for stage in (None, *read_config(file).get("stages", {}))]


@pytest.mark.parametrize(
    ("file", "stage"),
    CASES,
    ids=[f"{file.relative_to(CONFIGS)}-{stage}" for file, stage in CASES],
)
def test_a_shipped_configuration_parses(
    file: Path, stage: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [] if stage is None else ["--stage", stage]
    with pytest.raises(SystemExit) as ended:
        main(["fit", "-c", str(file), *chosen, "--print_config"])
    assert not ended.value.code
    parsed = yaml.safe_load(capsys.readouterr().out)
    if stage is not None:
        wanted = read_config(file)["stages"][stage]["model"]["init_args"]
        assert parsed["model"]["init_args"].get("trains") == wanted.get("trains")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIGS)))
def test_no_configuration_holds_an_absolute_path_or_an_environment_variable(file: Path) -> None:
    def strings(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for each in value.values() for text in strings(each)]
        if isinstance(value, list):
            return [text for each in value for text in strings(each)]
        return [value] if isinstance(value, str) else []

    assert not [text for text in strings(read(file)) if text.startswith(("/", "~")) or "$" in text]


@pytest.mark.parametrize("name", ["micro.yaml", "nextgpt-7b.yaml", "nextgpt-7b-v2.yaml"])
def test_stages_hand_over_to_the_next(name: str) -> None:
    stages = list(read_config(CONFIGS / name)["stages"].values())
    for before, after in zip(stages, stages[1:], strict=False):
        assert after["model"]["init_args"]["start_from"] == before["model"]["init_args"]["output"]


@pytest.mark.parametrize(
    "file", sorted((CONFIGS / "bridges" / "micro").glob("*.yaml")), ids=lambda file: file.stem
)
def test_no_sound_is_shown_to_a_bridge_on_the_micro_model(file: Path) -> None:
    # Most do not hear, and all learn from the same data.
    shown = 0
    for stage in filter(None, read_config(file)["stages"].values()):
        data = stage["data"]["init_args"]
        for source in [*data["train"], *data["validation"]]:
            if source["class_path"].endswith("CaptionToMedium"):
                continue
            arguments = source["init_args"]
            hears = arguments.get("modalities") or arguments["num_items"]
            assert "audio" not in hears or hears["audio"] == 0, source
            shown += 1
    assert shown > 0
