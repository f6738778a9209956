"""Loading diffusers and transformers parts without their bars and messages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Said by diffusers of directories that are as they should be.
_EXPECTED_MESSAGES = (
    "has been deprecated and will not receive bug fixes",  # the video and audio pipelines
    "You have disabled the safety checker",
    "The config attributes {'block_out_channels'",  # AutoencoderTiny, of its own saved config
    "Expected types for vae",  # AutoencoderTiny in the place of AutoencoderKL
)
_TALKATIVE_LOGGERS = (
    "diffusers.configuration_utils",
    "diffusers.pipelines.pipeline_utils",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
)
# Loading changes process-wide settings for its time; one at a time puts them back in order.
_LOADING = threading.RLock()


def _is_unexpected(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in _EXPECTED_MESSAGES)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hold back the libraries' loading bars and the messages known to mean nothing."""
    import diffusers
    import transformers

    bars = (diffusers.utils.logging, transformers.utils.logging)
    with _LOADING:
        active_bars = [library for library in bars if library.is_progress_bar_enabled()]
        loggers = [logging.getLogger(name) for name in _TALKATIVE_LOGGERS]
        for library in active_bars:
            library.disable_progress_bar()
        for logger in loggers:
            logger.addFilter(_is_unexpected)
        try:
            yield
        finally:
            for library in active_bars:
                library.enable_progress_bar()
            for logger in loggers:
                logger.removeFilter(_is_unexpected)
