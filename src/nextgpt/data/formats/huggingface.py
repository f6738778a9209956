"""Data sets that the ``datasets`` package has saved to disk."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from nextgpt.data.formats.containers import Container, Placed
from nextgpt.media.base import staged_folder
from nextgpt.modality import MODALITIES, Modality


class SavedDataset(Container):
    """A folder that ``Dataset.save_to_disk`` wrote, with the media in the rows.

    Media columns are those of the types Image, Audio and Video; in a record they have the name of
    the file that their bytes were written to.
    """

    carries_media = True

    def read(self, path: Path, keys: Sequence[str], media: Path) -> Generator[Placed]:
        """See ``Container.read``."""
        datasets = _package()
        try:
            rows = datasets.load_from_disk(str(path))
        except Exception as error:  # NOTE: pyarrow's errors are of many classes.
            raise ValueError(f"{path}: is no saved data set ({error})") from error
        if not isinstance(rows, datasets.Dataset):
            raise ValueError(f"{path}: has the splits {', '.join(rows)}; name the folder of one")
        columns = {
            name: modality
            for name, feature in rows.features.items()
            if (modality := type(feature).__name__.lower()) in MODALITIES
        }
        missing = [key for key in keys if key not in rows.features]
        if missing:
            raise ValueError(
                f"{path}: there is no column {missing[0]!r}; there are {', '.join(rows.features)}"
            )
        for name in columns:
            (media / name).mkdir(parents=True)
            rows = rows.cast_column(name, type(rows.features[name])(decode=False))
        for number, row in enumerate(tqdm(rows, desc=path.name, unit=" rows")):
            where = f"{path}, row {number}"
            for name, modality in columns.items():
                if row[name] is None:
                    del row[name]
                    continue
                data, source = row[name]["bytes"], row[name]["path"]
                if data is None:
                    raise ValueError(
                        f"{where}: {name} is the path {source!r}; save the data set with its media"
                    )
                suffix = Path(source or "").suffix or MODALITIES[Modality(modality)].file_suffix
                row[name] = f"{name}/{number:08d}{suffix}"
                (media / row[name]).write_bytes(data)
            yield where, row

    def write(self, path: Path, records: Iterable[dict[str, Any]], media: Path) -> None:
        """See ``Container.write``; ``path`` is a new folder."""
        datasets = _package()
        found: set[str] = set()

        def rows() -> Iterator[dict[str, Any]]:
            for record in records:
                for name in record.keys() & MODALITIES.keys():
                    file = media / record[name]
                    if not file.is_file():
                        raise ValueError(f"{file}: no such file; the set holds the media")
                    found.add(name)
                    record[name] = {"bytes": file.read_bytes(), "path": file.name}
                yield record

        with staged_folder(path) as folder, TemporaryDirectory() as cache:
            saved = datasets.Dataset.from_generator(rows, cache_dir=cache)
            for name in found:
                saved = saved.cast_column(name, getattr(datasets, name.capitalize())(decode=False))
            saved.save_to_disk(str(folder))


def _package() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            "reading saved data sets needs the datasets package: pip install 'nextgpt[datasets]'"
        ) from error
    return datasets
