"""The released ``pytorch_model.pt`` of NExT-GPT, or a file of one stage, as a checkpoint directory.

The original keeps everything that trained in one file: adapter, projections, and by accident the
whole embedding and output tables, of which only the rows of added tokens are kept here.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextgpt import checkpoint, configuration
from nextgpt.bridges import LinearConnector
from nextgpt.conversion.files import BaseTables, drift, load_tensors
from nextgpt.conversion.report import Report
from nextgpt.language_model import LoraOptions, load_exactly, write_adapter
from nextgpt.modality import Modality
from nextgpt.projections import OutputProjection
from nextgpt.prompting import template_of
from nextgpt.signals import SignalVocabulary

TEMPLATE = "vicuna_v0"
MARKERS = template_of(TEMPLATE).markers
NUM_SIGNAL_TOKENS = {Modality.IMAGE: 4, Modality.VIDEO: 24, Modality.AUDIO: 8}
ADDED_TOKENS = [
    *MARKERS,
    *(f"<{modality}_{i}>" for modality, count in NUM_SIGNAL_TOKENS.items() for i in range(count)),
]
"""Our names of the last rows of the original's tables, in its order."""
VOCABULARY_SIZE = 32_000
"""Of LLaMA, the base of Vicuna."""
NUM_FEATURES = 1024
"""Width of ImageBind-huge."""
BASE_PLACE = "./vicuna-7b-v0"
"""Where the base is looked for when none is named: in the new directory."""

_TABLES = {
    "input": r"llama_model\.(base_model\.model\.)?model\.embed_tokens\.weight",
    "output": r"llama_model\.(base_model\.model\.)?lm_head\.weight",
}
_LORA = (
    r"llama_model\.base_model\.model\."
    r"(?P<name>model\.layers\.(?P<layer>\d+)\.(?P<module>\w+\.\w+)\.lora_(?P<factor>[AB]))"
    r"\.default\.weight"
)
_COMPUTED = r"llama_model\..*\.rotary_emb\.inv_freq"
_INPUT = "llama_proj."
_OUTPUT = {
    Modality.IMAGE: "gen_text_hidden_fcs.0.",
    Modality.VIDEO: "gen_text_hidden_fcs_video.0.",
    Modality.AUDIO: "gen_text_hidden_fcs_audio.0.",
}
_RENAMED = {
    "input": "fc",
    "encoder": "tfm.encoder",
    "decoder": "tfm.decoder",
    "output": "model",
    "queries": "query_embs",
}
"""First components of our names in an output projection, and the original's."""


def convert_checkpoint(file: Path, out: Path, config: Path, base: str | None = None) -> Report:
    """Write a file of the original as a checkpoint directory, with ``conversion.md`` in it.

    A decoder whose projection the file lacks is left out, so that a file of the first stage becomes
    a model that answers in text; a missing input projection is drawn anew.

    Args:
        file: The released ``pytorch_model.pt``, or what a stage of the original saved.
        out: The new directory.
        config: A YAML file with the chain: encoder, decoders and sizes.
        base: Source of the language model, Vicuna-7B v0. With it, its sizes are compared and the
            drift of the tables is measured.

    Returns:
        What went where.

    Raises:
        ValueError: the file is broken or of another model: names every key that is missing,
            unexpected or misshapen, or both sizes of the vocabulary.
    """
    out = checkpoint.new_directory(out)
    chain = _chain(config)
    options = configuration.options_of(chain)
    weights = load_tensors(file)
    report = Report(file.name)

    tables = {name: _table(weights, pattern, file) for name, pattern in _TABLES.items()}
    width = weights[tables["input"]].shape[1]
    num_words, base_size = _check_tables(weights, tables, file, base, report)
    projections: dict[str, Tensor] = {}
    modalities = []
    sizes = configuration.options_of(options.get("output_projection", {}))
    projections |= _input_projection(weights, file, width, report)
    for modality, prefix in _OUTPUT.items():
        if any(key.startswith(prefix) for key in weights):
            modalities.append(modality)
            projections |= _output_projection(weights, file, width, modality, sizes, report)
        else:
            report.note(f"no projection for {modality}: the model will not answer in it")
    adapter, rank, targets = _adapter(weights, file, report)
    for key in weights:
        if re.fullmatch(_COMPUTED, key):
            report.add(key, weights[key], "left out: computed from the configuration")
    if unexpected := sorted(set(weights) - report.keys - set(tables.values())):
        raise ValueError(
            f"{file} holds {len(unexpected)} keys that are not of NExT-GPT: "
            f"{', '.join(unexpected[:8])}; convert a file that the original wrote"
        )

    counts = {modality: NUM_SIGNAL_TOKENS[modality] for modality in modalities}
    signals = SignalVocabulary(base_size, counts, MARKERS)
    places = [num_words + ADDED_TOKENS.index(name) for name in signals.names]
    rows = {}
    for name, key in tables.items():
        rows[name] = _half(weights[key][places], key, file)
        report.add(
            key,
            weights[key],
            f"{checkpoint.SIGNAL_ROWS}: {name}, {len(places)} of {len(weights[key])} rows",
        )

    lora = _configure(options, config, modalities, rank, targets, base)
    if adapter:
        report.note(f"alpha of LoRA is not in the file; {lora.alpha} is that of {config.name}")
    if base is None:
        report.note(
            "no base was named: put Vicuna-7B v0 (LLaMA-7B with lmsys/vicuna-7b-delta-v0 applied) "
            f"at {out / BASE_PLACE}; with later Vicunas these weights write noise"
        )
    source = options["language_model"]["source"]
    origin = {"file": file.name, "sha256": _sha256(file), "drift": report.drift}
    with checkpoint.staged(out) as folder:
        checkpoint.write(
            folder,
            projections=projections,
            signal_rows=rows,
            config=configuration.relative(chain, out),
            language_model={"hidden_size": width, "vocabulary_size": base_size},
            save_adapter=(
                partial(write_adapter, weights=adapter, options=lora, source=source)
                if adapter
                else None
            ),
            provenance={"converted_from": origin},
        )
        report.note(f"sha256 of {file.name}: {origin['sha256']}")
        (folder / "conversion.md").write_text(report.markdown(), encoding="utf-8")
    return report


def _chain(config: Path) -> dict[str, Any]:
    """Read the chain of a training configuration or of a checkpoint, sources as whole paths."""
    chain: Any = configuration.read_config(config)
    for key in ("model", "init_args"):
        chain = chain.get(key, chain) if isinstance(chain, dict) else None
    chain = chain.get("chain") if isinstance(chain, dict) else None
    if not isinstance(chain, dict) or {"language_model", "decoders"} - set(
        configuration.options_of(chain)
    ):
        raise ValueError(f"{config}: there is no chain with a language_model and decoders in it")
    return chain


def _configure(
    options: dict[str, Any],
    config: Path,
    modalities: list[Modality],
    rank: int,
    targets: list[str],
    base: str | None,
) -> LoraOptions:
    """Fit the options of a chain to the weights; return those of LoRA.

    Raises:
        ValueError: the chain lacks a decoder that the weights have a projection for.
    """
    if absent := [each for each in modalities if each not in options["decoders"]]:
        raise ValueError(f"{config}: there is no decoder for {', '.join(absent)}; add it")
    language_model = configuration.options_of(options["language_model"])
    alike = LoraOptions(**(language_model.get("lora") or {}))
    lora = replace(alike, rank=rank, target_modules=targets)
    source = base or BASE_PLACE
    if base is not None and Path(base).expanduser().exists():
        source = str(Path(base).expanduser().resolve())
    options["language_model"] = {
        **language_model,
        "source": source,
        "template": TEMPLATE,
        "lora": asdict(lora),
    }
    options["num_signal_tokens"] = {str(each): NUM_SIGNAL_TOKENS[each] for each in modalities}
    options["decoders"] = {str(each): options["decoders"][each] for each in modalities}
    options.pop("connector", None)  # The default is what the original has.
    return lora


def _table(weights: Mapping[str, Tensor], pattern: str, file: Path) -> str:
    """Find the key of a table, whose prefix tells whether there was an adapter."""
    keys = [key for key in weights if re.fullmatch(pattern, key)]
    if len(keys) != 1 or weights[keys[0]].ndim != 2:
        name = pattern.replace("\\.", ".").replace("(base_model.model.)?", "")
        raise ValueError(
            f"{file} does not hold one table {name} ({len(keys)} found); is it a file of NExT-GPT?"
        )
    return keys[0]


def _check_tables(
    weights: Mapping[str, Tensor],
    tables: Mapping[str, str],
    file: Path,
    base: str | None,
    report: Report,
) -> tuple[int, int]:
    """Compare the tables with the base's; return their rows of words, and the base's rows."""
    base_tables = BaseTables(base) if base is not None else None
    size = base_tables.vocabulary_size if base_tables else VOCABULARY_SIZE
    width = base_tables.hidden_size if base_tables else weights[tables["input"]].shape[1]
    words = len(weights[tables["input"]]) - len(ADDED_TOKENS)
    # NOTE: Vicuna v0 has a row for padding that the original's tokenizer did not know.
    num_words = words if size == words + 1 else size
    expected = (num_words + len(ADDED_TOKENS), width)
    for key in tables.values():
        if weights[key].shape != expected:
            raise ValueError(
                f"{file}: {key} is {' x '.join(map(str, weights[key].shape))} instead of "
                f"{' x '.join(map(str, expected))}, which are {size} rows of {base or 'LLaMA'} and "
                f"{len(ADDED_TOKENS)} of added tokens; it was trained on another language model"
            )
    if base_tables is not None:
        with base_tables:
            for name, key in tables.items():
                whole, most = drift(weights[key][:num_words], base_tables.table(name))
                report.drift[name] = {"whole": round(whole, 6), "most": round(most, 6)}
                report.note(
                    f"the {num_words} other rows of the {name} table are left out; they differ "
                    f"from the base by {whole:.3%} of their length, the most different row by "
                    f"{most:.3%}"
                )
    return num_words, size


def _input_projection(
    weights: Mapping[str, Tensor], file: Path, width: int, report: Report
) -> dict[str, Tensor]:
    theirs = {key: value for key, value in weights.items() if key.startswith(_INPUT)}
    weight = theirs.get(f"{_INPUT}weight")
    fits = weight is not None and weight.ndim == 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        connector = LinearConnector(weight.shape[1] if fits else NUM_FEATURES, width)  # type: ignore[union-attr]
    if not theirs:
        report.note("no input projection: it is drawn anew and must be trained")
        return _named(connector, "input_projection")
    names = {f"{_INPUT}{name}": f"linear.{name}" for name in ("weight", "bias")}
    return _taken(connector, "input_projection", names, theirs, file, report)


def _output_projection(
    weights: Mapping[str, Tensor],
    file: Path,
    width: int,
    modality: Modality,
    sizes: Mapping[str, Any],
    report: Report,
) -> dict[str, Tensor]:
    prefix = _OUTPUT[modality]
    theirs = {key: value for key, value in weights.items() if key.startswith(prefix)}
    queries, output = theirs.get(f"{prefix}query_embs"), theirs.get(f"{prefix}model.weight")
    # Where these are missing or misshapen, they are named below.
    length = queries.shape[1] if queries is not None and queries.ndim == 3 else 1
    conditioning_width = len(output) if output is not None and output.ndim else 512
    projection = OutputProjection(
        width, NUM_SIGNAL_TOKENS[modality], (length, conditioning_width), **sizes
    )
    names = {}
    for name, _ in projection.named_parameters():
        first, dot, rest = name.partition(".")
        names[f"{prefix}{_RENAMED[first]}{dot}{rest}"] = name
    projection.standardise.fix_as_identity()
    part = f"output_projections.{modality}"
    return _taken(projection, part, names, theirs, file, report)


def _taken(
    module: nn.Module,
    part: str,
    names: Mapping[str, str],
    theirs: Mapping[str, Tensor],
    file: Path,
    report: Report,
) -> dict[str, Tensor]:
    """Fill a part with the original's tensors, whose keys ``names`` turns into our names."""
    load_exactly({key: module.get_parameter(name) for key, name in names.items()}, theirs, file)
    for key, name in names.items():
        _half(theirs[key], key, file)
        report.add(key, theirs[key], f"{checkpoint.PROJECTIONS}: {part}.{name}")
    return _named(module, part)


def _named(module: nn.Module, part: str) -> dict[str, Tensor]:
    """Tensors of a part by their names in the model: parameters as float16, statistics as are."""
    parameters = dict(module.named_parameters())
    return {
        f"{part}.{name}": value.detach().half() if name in parameters else value
        for name, value in module.state_dict().items()
    }


def _adapter(
    weights: Mapping[str, Tensor], file: Path, report: Report
) -> tuple[dict[str, Tensor], int, list[str]]:
    """Collect LoRA's factors by their names in the model, their rank and the layers' names."""
    found = {key: match for key in weights if (match := re.fullmatch(_LORA, key))}
    if not found:
        report.note("no LoRA adapter: the language model stays as it is")
        return {}, LoraOptions().rank, LoraOptions().target_modules
    modules = sorted({match["module"] for match in found.values()})
    num_layers = 1 + max(int(match["layer"]) for match in found.values())
    names = {match["name"] for match in found.values()}
    expected = {
        f"model.layers.{layer}.{module}.lora_{factor}"
        for layer in range(min(num_layers, len(found)))
        for module in modules
        for factor in "AB"
    }
    if missing := sorted(expected - names):
        raise ValueError(f"{file} does not hold the whole adapter; missing: {', '.join(missing)}")
    ranks = {weights[key].shape[match["factor"] == "B"] for key, match in found.items()}
    if len(ranks) != 1:
        raise ValueError(f"{file}: factors of LoRA have several ranks, {sorted(ranks)}")
    adapter = {}
    for key, match in found.items():
        adapter[f"{match['name']}.weight"] = _half(weights[key], key, file)
        report.add(key, weights[key], f"{checkpoint.ADAPTER}: {match['name']}")
    return adapter, ranks.pop(), sorted({module.split(".")[1] for module in modules})


def _half(tensor: Tensor, key: str, file: Path) -> Tensor:
    """Copy to float16, in memory of its own.

    Raises:
        ValueError: it holds what is no number there.
    """
    half = tensor.half().clone(memory_format=torch.contiguous_format)
    if not half.isfinite().all():
        raise ValueError(f"{file}: {key} holds numbers that are not finite in float16")
    return half


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
