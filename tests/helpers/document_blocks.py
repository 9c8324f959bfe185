"""The blocks of code in the documents."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = "MASKING_CONTEXT_SYNC.md"
QUICK_START = "examples/asr/speech_pretraining/README.md"


def blocks(document: str, language: str) -> list[str]:
    """The text of each block of that language, in order."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)
